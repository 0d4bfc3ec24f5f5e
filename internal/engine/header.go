package engine

import (
	"errors"
	"strings"

	"github.com/lazaret-health/lazaret/hl7"
)

// A Header is what lists show of a message. It is stored sealed: a control ID or a facility may say more than one thinks.
type Header struct {
	ControlID string `json:"control_id"`
	From      string `json:"from"` // MSH-3 and MSH-4
	To        string `json:"to"`   // MSH-5 and MSH-6
	Version   string `json:"version"`
	Charset   string `json:"charset"`
}

// maxHeaderText bounds each text of a header.
const maxHeaderText = 200

func headerOf(m *hl7.Message) Header {
	if m == nil {
		return Header{}
	}
	return Header{
		ControlID: cut(m.ControlID()),
		From:      cut(join(m.Get(headerFields[0]), m.Get(headerFields[1]))),
		To:        cut(join(m.Get(headerFields[2]), m.Get(headerFields[3]))),
		Version:   cut(m.Version()),
		Charset:   m.Charset(),
	}
}

var headerFields = [4]hl7.Path{hl7.MustPath("MSH-3.1"), hl7.MustPath("MSH-4.1"), hl7.MustPath("MSH-5.1"), hl7.MustPath("MSH-6.1")}

func join(app, facility string) string {
	switch {
	case app == "":
		return facility
	case facility == "":
		return app
	}
	return app + " at " + facility
}

func cut(s string) string {
	if len(s) > maxHeaderText {
		s = strings.ToValidUTF8(s[:maxHeaderText], "")
	}
	return s
}

// encode joins the texts by a byte that none of them keeps.
func (h Header) encode() []byte {
	parts := [...]string{h.ControlID, h.From, h.To, h.Version, h.Charset}
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(p, "\x1f", " ")
	}
	return []byte(strings.Join(parts[:], "\x1f"))
}

func decodeHeader(b []byte) (Header, error) {
	parts := strings.Split(string(b), "\x1f")
	if len(parts) != 5 {
		return Header{}, errors.New("a message's header does not have its five parts")
	}
	return Header{parts[0], parts[1], parts[2], parts[3], parts[4]}, nil
}
