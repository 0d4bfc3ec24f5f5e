package hl7

import (
	"bytes"
	"fmt"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// A charsetID is a character set of HL7 table 0211, or one that the field uses without being in it.
type charsetID uint8

const (
	charsetASCII   charsetID = iota // also where MSH-18 is empty: the standard's default
	charsetUnknown                  // MSH-18 names something that we cannot read
	charsetUTF8
	charsetUTF16 // as UTF-8 in buf
	charset8859_1
	charset8859_2
	charset8859_3
	charset8859_4
	charset8859_5
	charset8859_6
	charset8859_7
	charset8859_8
	charset8859_9
	charset8859_10
	charset8859_13
	charset8859_14
	charset8859_15
	charset8859_16
	charset1250
	charset1251
	charset1252
	charset1253
	charset1254
	charset1255
	charset1256
	charset1257
	charset1258
	charsetISO2022JP // ISO IR14, IR87 and IR159 beside ASCII
	charsetShiftJIS
	charsetEUCJP
	charsetEUCKR // KS X 1001
	charsetGB18030
	charsetBig5
)

// canonical is the name in table 0211, or the usual one.
func (c charsetID) canonical() string {
	switch c {
	case charsetASCII:
		return "ASCII"
	case charsetUTF8:
		return "UNICODE UTF-8"
	case charsetUTF16:
		return "UNICODE UTF-16"
	case charsetISO2022JP:
		return "ISO IR87"
	case charsetShiftJIS:
		return "SHIFT_JIS"
	case charsetEUCJP:
		return "EUC-JP"
	case charsetEUCKR:
		return "KS X 1001"
	case charsetGB18030:
		return "GB 18030-2000"
	case charsetBig5:
		return "BIG-5"
	}
	if n := c.part8859(); n != 0 {
		return fmt.Sprintf("8859/%d", n)
	}
	if charset1250 <= c && c <= charset1258 {
		return fmt.Sprintf("WINDOWS-%d", 1250+int(c-charset1250))
	}
	return ""
}

func (c charsetID) part8859() int {
	switch {
	case charset8859_1 <= c && c <= charset8859_10:
		return 1 + int(c-charset8859_1)
	case charset8859_13 <= c && c <= charset8859_16:
		return 13 + int(c-charset8859_13)
	}
	return 0
}

// masks says whether a byte that looks like a separator may be the second half of a character.
func (c charsetID) masks() bool {
	switch c {
	case charsetISO2022JP, charsetShiftJIS, charsetGB18030, charsetBig5:
		return true
	}
	return false
}

// charsetNamed finds a character set by any of its names, in any spelling: only letters and digits count. The common ones
// allocate nothing.
func charsetNamed(s []byte) (charsetID, bool) {
	switch string(s) {
	case "", "ASCII":
		return charsetASCII, true
	case "UNICODE UTF-8":
		return charsetUTF8, true
	case "8859/1":
		return charset8859_1, true
	}
	if len(s) > 32 {
		return charsetUnknown, false
	}
	var b [32]byte
	n := 0
	for _, c := range s {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		switch {
		case alphanumeric(c):
			b[n] = c
			n++
		case c >= 0x80 || c < ' ':
			return charsetUnknown, false
		}
	}
	k := b[:n]
	for _, prefix := range [...]string{"ISOIEC", "ISO", "UNICODEISO"} {
		if p := []byte(prefix); bytes.HasPrefix(k, p) && bytes.HasPrefix(k[len(p):], []byte("8859")) {
			k = k[len(p):]
			break
		}
	}
	switch string(k) {
	case "", "ASCII", "USASCII", "ISOIR6", "ISO646", "ANSIX341968":
		return charsetASCII, true
	case "UTF8", "UNICODEUTF8", "UNICODE":
		// UNICODE alone is withdrawn and meant UCS-2; without UTF-16's marks the bytes can only be UTF-8.
		return charsetUTF8, true
	case "UTF16", "UNICODEUTF16", "UCS2", "UTF16LE", "UTF16BE":
		return charsetUTF16, true
	case "88591", "LATIN1", "ISOIR100":
		return charset8859_1, true
	case "88592", "LATIN2", "ISOIR101":
		return charset8859_2, true
	case "88593", "LATIN3", "ISOIR109":
		return charset8859_3, true
	case "88594", "LATIN4", "ISOIR110":
		return charset8859_4, true
	case "88595", "ISOIR144":
		return charset8859_5, true
	case "88596", "ISOIR127":
		return charset8859_6, true
	case "88597", "ISOIR126":
		return charset8859_7, true
	case "88598", "ISOIR138":
		return charset8859_8, true
	case "88599", "LATIN5", "ISOIR148":
		return charset8859_9, true
	case "885910":
		return charset8859_10, true
	case "885913":
		return charset8859_13, true
	case "885914":
		return charset8859_14, true
	case "885915", "LATIN9":
		return charset8859_15, true
	case "885916":
		return charset8859_16, true
	case "ANSI":
		return charset1252, true
	case "ISOIR13", "ISOIR14", "ISOIR87", "ISOIR159", "ISO2022JP", "JISX0208":
		return charsetISO2022JP, true
	case "SHIFTJIS", "SJIS", "MSKANJI", "WINDOWS31J", "CP932", "MS932":
		return charsetShiftJIS, true
	case "EUCJP":
		return charsetEUCJP, true
	case "KSX1001", "KSC5601", "ISOIR149", "EUCKR", "CP949":
		return charsetEUCKR, true
	case "GB18030", "GB180302000", "GBK", "GB2312", "CP936":
		return charsetGB18030, true
	case "BIG5", "CP950":
		return charsetBig5, true
	}
	for _, prefix := range [...]string{"WINDOWS", "CP", ""} {
		if p := []byte(prefix); bytes.HasPrefix(k, p) {
			if d := k[len(p):]; len(d) == 4 && string(d[:3]) == "125" && '0' <= d[3] && d[3] <= '8' {
				return charset1250 + charsetID(d[3]-'0'), true
			}
		}
	}
	return charsetUnknown, false
}

// table is the encoding of a character set with one byte a character, or nil.
func (c charsetID) table() *charmap.Charmap {
	switch c {
	case charset8859_1, charset1252:
		// The printable part of Windows-1252 is 8859/1; 0x80 to 0x9F are controls there, which no clinical text has.
		return charmap.Windows1252
	case charset8859_2:
		return charmap.ISO8859_2
	case charset8859_3:
		return charmap.ISO8859_3
	case charset8859_4:
		return charmap.ISO8859_4
	case charset8859_5:
		return charmap.ISO8859_5
	case charset8859_6:
		return charmap.ISO8859_6
	case charset8859_7:
		return charmap.ISO8859_7
	case charset8859_8:
		return charmap.ISO8859_8
	case charset8859_9:
		return charmap.ISO8859_9
	case charset8859_10:
		return charmap.ISO8859_10
	case charset8859_13:
		return charmap.ISO8859_13
	case charset8859_14:
		return charmap.ISO8859_14
	case charset8859_15:
		return charmap.ISO8859_15
	case charset8859_16:
		return charmap.ISO8859_16
	case charset1250:
		return charmap.Windows1250
	case charset1251:
		return charmap.Windows1251
	case charset1253:
		return charmap.Windows1253
	case charset1254:
		return charmap.Windows1254
	case charset1255:
		return charmap.Windows1255
	case charset1256:
		return charmap.Windows1256
	case charset1257:
		return charmap.Windows1257
	case charset1258:
		return charmap.Windows1258
	}
	return nil
}

// multibyte is the encoding of an East Asian character set, or nil.
func (c charsetID) multibyte() encoding.Encoding {
	switch c {
	case charsetISO2022JP:
		return japanese.ISO2022JP
	case charsetShiftJIS:
		return japanese.ShiftJIS
	case charsetEUCJP:
		return japanese.EUCJP
	case charsetEUCKR:
		return korean.EUCKR
	case charsetGB18030:
		return simplifiedchinese.GB18030
	case charsetBig5:
		return traditionalchinese.Big5
	}
	return nil
}
