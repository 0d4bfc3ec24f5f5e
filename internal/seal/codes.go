package seal

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// The codes below are part of every sealed value's associated data and of every key's id. They are never renumbered and never
// used again for something else: a table may be renamed, its code stays. New ones go to the end of their list.

// Tables.
const (
	TableMessageContent  uint16 = 1 // a message as it was received
	TableDeliveryContent uint16 = 2 // the bytes that an attempt sends
	TableAuditDetail     uint16 = 3 // what of an audit entry is PHI
	TableAuditSubject    uint16 = 4 // whose data an audit entry is about
	TablePatientData     uint16 = 5 // the guide's patient_data
	TableMessageHeader   uint16 = 6 // what is shown of a message in lists
	TableLegalHold       uint16 = 7 // whom a hold on disposal is about, and why
)

// Columns, by table. A table with a single sealed column uses ColumnContent.
const (
	ColumnContent     uint16 = 1
	ColumnSSN         uint16 = 2 // patient_data.encrypted_ssn
	ColumnDOB         uint16 = 3 // patient_data.encrypted_dob
	ColumnIdentifiers uint16 = 4 // patient identifiers taken out of a message
	ColumnRelease     uint16 = 5 // legal_hold.released: why it ended
)

// Fields of blind values.
const (
	FieldPatientIdentifier uint16 = 1 // PID-3 and kin: identifier, assigning authority, type
	FieldControlID         uint16 = 2 // MSH-10
	FieldOrder             uint16 = 3 // a patient identifier as a queue's order key; used with Lasting
	FieldDuplicate         uint16 = 4 // sender, MSH-10 and content, for the duplicate window
	FieldPatientName       uint16 = 5
	FieldBirthDate         uint16 = 6
	FieldAuditSubject      uint16 = 7 // whose data an audit entry is about; used with Lasting
)

// A Purpose is what a data key is for: whose reader needs it, and how long it lives.
type Purpose uint8

const (
	Message      Purpose = 1 // message content, as received and as sent; by period
	Identifiers  Purpose = 2 // identifiers taken out for look-up; by period
	Contact      Purpose = 3 // addresses and telephone numbers taken out for look-up; by period
	Sensitive    Purpose = 4 // specially protected messages (42 CFR Part 2 and kin); by period
	AuditDetail  Purpose = 5 // PHI in audit details; by period, at least six years
	AuditSubject Purpose = 6 // whose data was touched; lives as long as the audit log
	Account      Purpose = 7 // secrets of accounts and of the configuration; lasting
	Resource     Purpose = 8 // FHIR resources; by period

	BlindIndex Purpose = 128 // roots of blind values; never seals. By period, and lasting
)

// Purposes are all of them, in the order of their codes.
func Purposes() []Purpose {
	return []Purpose{Message, Identifiers, Contact, Sensitive, AuditDetail, AuditSubject, Account, Resource, BlindIndex}
}

// ParsePurpose reads what Purpose.String wrote.
func ParsePurpose(s string) (Purpose, error) {
	for _, p := range Purposes() {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%q is no purpose of a data key", s)
}

// Lasting says whether the purpose has one key for all time in place of one a period.
func (p Purpose) Lasting() bool { return p == AuditSubject || p == Account }

func (p Purpose) seals() bool { return p >= Message && p <= Resource }

var purposeNames = [...]string{Message: "message", Identifiers: "identifiers", Contact: "contact", Sensitive: "sensitive",
	AuditDetail: "audit-detail", AuditSubject: "audit-subject", Account: "account", Resource: "resource"}

func (p Purpose) String() string {
	switch {
	case p.seals():
		return purposeNames[p]
	case p == BlindIndex:
		return "blind-index"
	}
	return fmt.Sprintf("purpose-%d", uint8(p))
}

// A Period is a month in UTC, counted as year*12 + month-1, or Lasting. The upper half of its range is kept free for periods of
// another length.
type Period uint16

// Lasting is the period of keys that are not tied to one.
const Lasting Period = 0

// PeriodOf is the month that t lies in, in UTC. Years are 1 to 2730.
func PeriodOf(t time.Time) Period {
	y, m, _ := t.UTC().Date()
	return Period(min(max(y, 1), 2730)*12 + int(m) - 1)
}

// Start is the first instant of the period, in UTC; Lasting has the zero time.
func (p Period) Start() time.Time {
	if p == Lasting {
		return time.Time{}
	}
	return time.Date(int(p)/12, time.Month(int(p)%12+1), 1, 0, 0, 0, 0, time.UTC)
}

// String is 2026-11, or lasting.
func (p Period) String() string {
	if p == Lasting {
		return "lasting"
	}
	return fmt.Sprintf("%04d-%02d", int(p)/12, int(p)%12+1)
}

// ParsePeriod reads what Period.String wrote: 2026-11, or lasting.
func ParsePeriod(s string) (Period, error) {
	if s == "lasting" {
		return Lasting, nil
	}
	t, err := time.Parse("2006-01", s)
	if err != nil || PeriodOf(t).String() != s {
		return 0, fmt.Errorf("a period is a month, as in 2026-11")
	}
	return PeriodOf(t), nil
}

const keyIDSize = 16

// A KeyID names a data key: organisation (4 bytes), purpose (1), period (2), serial (9), big endian. The serial is random; that
// of a blind key is zero, because there must be one a period and no more. A KeyID is no secret.
type KeyID [keyIDSize]byte

func makeID(s slot, serial [9]byte) (id KeyID) {
	binary.BigEndian.PutUint32(id[0:], s.org)
	id[4] = byte(s.purpose)
	binary.BigEndian.PutUint16(id[5:], uint16(s.period))
	copy(id[7:], serial[:])
	return id
}

// Org is the organisation whose key it is.
func (id KeyID) Org() uint32 { return binary.BigEndian.Uint32(id[0:]) }

// Purpose is what the key is for.
func (id KeyID) Purpose() Purpose { return Purpose(id[4]) }

// Period is when the key is for.
func (id KeyID) Period() Period { return Period(binary.BigEndian.Uint16(id[5:])) }

// String is the id in hexadecimal, as the key store and the error texts show it.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID reads what KeyID.String wrote.
func ParseKeyID(s string) (id KeyID, err error) {
	if len(s) != 2*keyIDSize {
		return id, fmt.Errorf("a key id has %d hexadecimal digits, not %d characters", 2*keyIDSize, len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("a key id has hexadecimal digits only")
	}
	return id, nil
}

// MarshalText is String, for JSON.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseKeyID.
func (id *KeyID) UnmarshalText(b []byte) (err error) { *id, err = ParseKeyID(string(b)); return err }

// MarshalText is String, for JSON.
func (p Purpose) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePurpose.
func (p *Purpose) UnmarshalText(b []byte) (err error) { *p, err = ParsePurpose(string(b)); return err }

// MarshalText is String, for JSON.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePeriod.
func (p *Period) UnmarshalText(b []byte) (err error) { *p, err = ParsePeriod(string(b)); return err }
