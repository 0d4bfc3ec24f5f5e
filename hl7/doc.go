// Package hl7 reads, addresses, changes, writes and answers HL7 v2 messages of versions 2.1 to 2.9 in their classic
// encoding (chapter 2, "ER7").
package hl7
