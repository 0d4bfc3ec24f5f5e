package main

import "strings"

// A demoReceiver is one of the demo's receiving systems.
type demoReceiver struct {
	name   string
	feed   string // whose messages it gets
	strict bool   // in the order of the whole feed; else of each patient
	away   bool   // it is down for a while
}

// demoReceivers are all of them, in the order in which they are shown.
func demoReceivers() []demoReceiver {
	return []demoReceiver{
		{name: "registry", feed: "adt", strict: true, away: true},
		{name: "laboratory", feed: "adt"},
		{name: "archive", feed: "oru"},
	}
}

// expects is the hash of what the receiver must get of a message, or "" where it must get nothing.
func (r demoReceiver) expects(e ledgerEntry) string {
	switch {
	case e.Feed != r.feed, r.name == "laboratory" && !toLaboratory(e.Type):
		return ""
	case r.name == "laboratory":
		return e.Laboratory
	}
	return e.SHA256
}

// refuses says whether the receiver answers AE to a message of this type.
func (r demoReceiver) refuses(typ string) bool {
	return r.name == "laboratory" && strings.HasSuffix(typ, "^"+demoUnsupported)
}
