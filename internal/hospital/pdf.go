package hospital

import (
	"bytes"
	"fmt"
	"strings"
)

// PDF makes a small, complete PDF 1.4 document (ISO 32000-1): a page, or several, of text in Helvetica, with a right
// cross-reference table. Letters beyond ISO 8859-1 become question marks, for the standard fonts do not have them.
func PDF(title string, lines []string) []byte {
	const perPage = 48
	var pages [][]string
	for len(lines) > perPage {
		pages, lines = append(pages, lines[:perPage]), lines[perPage:]
	}
	pages = append(pages, lines)

	var b bytes.Buffer
	var offsets []int
	object := func(format string, args ...any) {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(offsets))
		fmt.Fprintf(&b, format, args...)
		b.WriteString("\nendobj\n")
	}
	// The second line's high bytes tell transports that this is binary (7.5.2).
	b.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	object("<< /Type /Catalog /Pages 2 0 R >>")
	var kids []string
	for i := range pages {
		kids = append(kids, fmt.Sprintf("%d 0 R", 4+2*i))
	}
	object("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(pages))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	for i, page := range pages {
		object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>", 5+2*i)
		var c bytes.Buffer
		fmt.Fprintf(&c, "BT /F1 14 Tf 56 786 Td (%s) Tj /F1 10 Tf 0 -10 Td", pdfText(title))
		for _, l := range page {
			fmt.Fprintf(&c, " 0 -14 Td (%s) Tj", pdfText(l))
		}
		c.WriteString(" ET")
		object("<< /Length %d >>\nstream\n%s\nendstream", c.Len(), c.Bytes())
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, xref)
	return b.Bytes()
}

// pdfText is a literal string's inside (7.3.4.2).
func pdfText(s string) []byte {
	return latin1([]byte(strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`, "\r", " ", "\n", " ").Replace(s)))
}
