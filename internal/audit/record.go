package audit

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/lazaret-health/lazaret/internal/db"
)

// randomPart is how many bytes of an id are random, six of their bits set by RFC 9562.
const randomPart = 10

// makeID makes an entry's id: a UUID of version 8 (RFC 9562, section 5.8), 48 bits of sequence and then randomness. The sequence
// comes first so that an index by id is one by sequence.
func makeID(seq int64, random []byte) (id db.ID) {
	id = firstID(seq)
	copy(id[6:], random)
	id[6] = 0x80 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id
}

func firstID(seq int64) (id db.ID) {
	for i := range 6 {
		id[i] = byte(seq >> (40 - 8*i))
	}
	return id
}

// nothing is NULL for what is empty: each value then has one form in the database.
func nothing(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func noID(id db.ID) any {
	if id.IsZero() {
		return nil
	}
	return id
}

func (l *Log) insert(tx *db.Tx, r *Record) error {
	var ip, details, hash any
	if r.IP.IsValid() {
		ip = r.IP.String()
	}
	if len(r.Details) > 0 {
		var room [256]byte
		details = string(appendDetails(room[:0], r.Details))
	}
	if r.PrivateHash != nil {
		hash = r.PrivateHash
	}
	return tx.Insert(l.log, r.Seq, r.ID, r.Time, noID(r.User), string(r.Event), nothing(r.ResourceType), nothing(r.ResourceID),
		string(r.Action), string(r.Result), ip, nothing(r.Agent), details, int64(r.Org), nothing(r.Purpose), noID(r.Session),
		noID(r.Request), nothing(r.Program), nothing(r.OSUser), hash, r.salt[:])
}

// columns of a record, in the order of scan. The last tells which are NULL, a bit each: the door to the database gives "" for NULL
// and for "" alike, and somebody may have put one for the other.
const columns = `seq, id, timestamp, user_id, event_type, resource_type, resource_id, action, result, {ip}, user_agent,
	{details}, organisation, purpose, session_id, request_id, program, os_user, private_hash, salt,
	CASE WHEN user_id IS NULL THEN 1 ELSE 0 END + CASE WHEN resource_type IS NULL THEN 2 ELSE 0 END +
	CASE WHEN resource_id IS NULL THEN 4 ELSE 0 END + CASE WHEN ip_address IS NULL THEN 8 ELSE 0 END +
	CASE WHEN user_agent IS NULL THEN 16 ELSE 0 END + CASE WHEN details IS NULL THEN 32 ELSE 0 END +
	CASE WHEN purpose IS NULL THEN 64 ELSE 0 END + CASE WHEN session_id IS NULL THEN 128 ELSE 0 END +
	CASE WHEN request_id IS NULL THEN 256 ELSE 0 END + CASE WHEN program IS NULL THEN 512 ELSE 0 END +
	CASE WHEN os_user IS NULL THEN 1024 ELSE 0 END + CASE WHEN private_hash IS NULL THEN 2048 ELSE 0 END`

// scan reads a row. bad names what in it the log would never have written; a record with such a row is as good as can be.
func (l *Log) scan(rows *db.Rows, r *Record) (bad string, err error) {
	var event, action, result, ip, details string
	var org, nulls int64
	var salt []byte
	*r = Record{}
	err = rows.Scan(&r.Seq, &r.ID, &r.Time, &r.User, &event, &r.ResourceType, &r.ResourceID, &action, &result, &ip, &r.Agent,
		&details, &org, &r.Purpose, &r.Session, &r.Request, &r.Program, &r.OSUser, &r.PrivateHash, &salt, &nulls)
	if err != nil {
		return "", err
	}
	r.Event, r.Action, r.Result = Event(event), Action(action), Result(result)
	r.Org = uint32(org)
	note := func(ok bool, what string) {
		if !ok && bad == "" {
			bad = what
		}
	}
	note(int64(r.Org) == org, "organisation is out of range")
	note(copy(r.salt[:], salt) == len(salt) && len(salt) == saltSize, "salt has another length")
	note(r.PrivateHash == nil || len(r.PrivateHash) == 32, "private hash has another length")
	if ip != "" {
		text := ip
		if l.engine == db.PostgreSQL { // inet as text has its mask
			if text, _ = strings.CutSuffix(ip, "/32"); strings.Contains(ip, ":") {
				text, _ = strings.CutSuffix(ip, "/128")
			}
		}
		r.IP, err = netip.ParseAddr(text)
		note(err == nil && (l.engine == db.PostgreSQL || r.IP.String() == ip), "address is none, or has another form")
	}
	if details != "" {
		r.Details, err = parseDetails(details)
		note(err == nil, "details have another form")
		if l.engine == db.SQLite {
			note(string(appendDetails(nil, r.Details)) == details, "details have another form")
		}
	}
	want := int64(0)
	for i, there := range [...]bool{!r.User.IsZero(), r.ResourceType != "", r.ResourceID != "", ip != "", r.Agent != "", details != "",
		r.Purpose != "", !r.Session.IsZero(), !r.Request.IsZero(), r.Program != "", r.OSUser != "", r.PrivateHash != nil} {
		if !there {
			want |= 1 << i
		}
	}
	note(nulls == want, "something empty stands where nothing should")
	note(r.ID == makeID(r.Seq, r.ID[6:]), "id does not belong to its sequence")
	return bad, nil
}

const selectRecords = `SELECT ` + columns + ` FROM audit_log WHERE {place} >= $1 AND {place} < $2 ORDER BY {place} LIMIT $3`

// pageRows is how many rows a walk asks for at once.
const pageRows = 4096

// walk reads the rows from first up to end in their order, until f says no.
func (l *Log) walk(tx *db.Tx, first, end int64, f func(r *Record, bad string) bool) error {
	var r Record
	for first < end {
		rows, err := tx.Query(l.selectPage, l.place(first), l.place(end), pageRows)
		if err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		n := 0
		for rows.Next() {
			bad, err := l.scan(rows, &r)
			if err != nil { // a value that its Go type does not hold: a broken connection shows in Next and Err
				rows.Close()
				f(&Record{Seq: first + int64(n)}, "it cannot be read")
				return nil
			}
			n++
			if !f(&r, bad) {
				rows.Close()
				return nil
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		if n < pageRows {
			return nil
		}
		first = max(r.Seq, first) + 1
	}
	return nil
}
