// Package hl7 reads, addresses, changes, writes and answers HL7 v2 messages of versions 2.1 to 2.9 in their classic
// encoding (HL7 v2.5.1 chapter 2, from which section numbers are taken where no other version is named).
//
// # Reading
//
// Parse keeps the bytes, notes where the segments lie, and looks for fields only when asked. It refuses only what nobody
// could read: input without MSH in front, and separators that cannot separate. Everything odd but legible is read, and an
// unmodified message is written as the very bytes it came from:
//
//   - separators of any kind from MSH-1 and MSH-2, also fewer than the standard has, and the truncation character of
//     version 2.7 (2.5.5.2)
//   - CR, LF or CRLF behind segments, mixed too, none behind the last, blank lines, a byte order mark (2.5.4)
//   - line breaks that somebody left inside a text, where CR ends the segments
//   - Z segments, lines that are no segment, fields of many megabytes
//   - absent, empty, and null, which is written as two quotes (2.5.3)
//
// Reset reads another message into the same memory: reading and addressing then allocate nothing.
//
// # Addresses
//
// A Path is written as analysts write it: PID-3.1, PID-3(2).4.2, OBX(3)-5, OBX(-1)-5, OBX(*)-5. Raw gives an element's
// bytes and Get its text; Presence tells the ways of having no value apart; Walk visits every value there is. Get and Set
// speak UTF-8 and know escapes (2.7), Raw and SetRaw do neither.
//
// # Changing
//
// Set, SetRaw, SetNull, Delete, InsertSegment and AppendSegment change one segment each and leave the bytes of all others
// alone. Nothing that is set can get out of its place: Set escapes separators, CR, LF, ESC and the bytes that frame MLLP,
// and SetRaw refuses them. This holds in character sets whose characters contain separators too.
//
// # Character sets
//
// MSH-18 (table 0211) decides, or OverrideCharset: ASCII, 8859/1 to 8859/16, Windows-1250 to -1258, UTF-8, UTF-16, ISO IR14,
// IR87 and IR159 (ISO 2022), Shift-JIS, EUC-JP, KS X 1001, GB 18030, BIG-5. Where the second byte of a character may look
// like a separator (Shift-JIS, GB 18030, BIG-5, ISO 2022), it is not taken for one. Undeclared bytes outside ASCII are read
// as UTF-8 where the whole message is valid UTF-8, and as Windows-1252 otherwise; so are the bytes 0x80 to 0x9F in 8859/1.
// Bytes that mean nothing are kept, shown as stand-ins that Set turns into the same bytes again, and found by CheckText.
// Transcode writes a whole message in another set.
//
// # Answering
//
// NewAck makes acknowledgements in original and enhanced mode (2.9.2, 2.9.3) in the form of the message's own version, and
// NewAckRaw for what could not be read. ParseAck reads them. SplitBatch takes files and batches apart (2.10.3).
//
// # Left out
//
// The XML encoding, message structures and data types: what a segment or field is called is package dictionary's matter.
// Continuation by ADD and DSC (2.10.2) is left as segments. CNS 11643-1992 and UTF-32 of table 0211 are not decoded.
package hl7
