package hl7

// Type is MSH-9: message code, trigger event and message structure, as in ADT, A04, ADT_A01. Old versions have the code
// alone (2.1), or no structure (before 2.3.1). Some senders write ADT_A04 or ADT-A04 in one piece; it stays one piece.
func (m *Message) Type() (code, event, structure string) {
	p := Path{Segment: "MSH", Field: 9, Component: 1}
	code = m.Get(p)
	p.Component = 2
	event = m.Get(p)
	p.Component = 3
	return code, event, m.Get(p)
}

// ControlID is MSH-10, which the answer carries back in MSA-2.
func (m *Message) ControlID() string { return m.Get(Path{Segment: "MSH", Field: 10}) }

// ProcessingID is MSH-11.1, from table 0103: P production, T training, D debugging.
func (m *Message) ProcessingID() string { return m.Get(Path{Segment: "MSH", Field: 11, Component: 1}) }

// Version is MSH-12.1, as in 2.5.1.
func (m *Message) Version() string { return m.Get(Path{Segment: "MSH", Field: 12, Component: 1}) }
