// Package audit is the record of who did what, when, from where, why and with what result (45 CFR 164.312(b)).
//
// An entry is appended in the transaction of the act that it records: if it cannot be written, the act does not happen. In the
// same transaction the Merkle tree grows (RFC 6962 hashing; the row of numbers holds the tree's size and right edge), so that no
// entry is without a place and a changed, lost, inserted or moved one is found by hashing the rows again (Recompute). A leaf is a
// canonical encoding of the row with 16 random bytes in it, so that no hash tells of what it was made.
//
// No entry is ever changed or deleted; triggers refuse it in both databases. What of an entry is PHI lies sealed in a row beside
// it (Seal), and the entry holds that row's hash: it can be dropped one day without breaking the tree.
//
// What this does not stop: whoever owns the database can write rows, tiles and edge anew so that all fits. Only a checkpoint kept
// elsewhere shows it. Checkpoints, witnesses, proofs, syslog and AuditEvent come with the issue on the audit trail.
//
// Cost of an entry: one row and two index entries on SQLite, three on PostgreSQL (one more with a user); a tile of 8 KiB every 256
// entries; no round trip and no read of its own.
package audit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
	"golang.org/x/mod/sumdb/tlog"
)

//go:embed schema/*.sql
var schema embed.FS

// Config is what a Log needs. Every field is required.
type Config struct {
	DB   *db.DB
	Keys *seal.Ring
	Rand io.Reader // ids and salts
}

// A Log is the record in one database. It may be used by any number of goroutines.
type Log struct {
	keys *seal.Ring
	rand io.Reader

	log, details, tiles *db.Table

	selectPage string // the engine's form of selectRecords
	search     map[searchBy]string
	engine     db.Engine

	mu      sync.Mutex
	growing growing // guarded by mu
	buf     []byte  // guarded by mu
}

// Migrate makes this room's tables, or brings them up to date. New does it too; it is for who owns the tables where the service does not.
func Migrate(ctx context.Context, d *db.DB) error { return d.Migrate(ctx, "audit", schema) }

// New opens the log and makes or updates its tables. It starts nothing.
func New(ctx context.Context, c Config) (*Log, error) {
	switch {
	case c.DB == nil:
		return nil, errors.New("open audit log: Config.DB is missing")
	case c.Keys == nil:
		return nil, errors.New("open audit log: Config.Keys is missing")
	case c.Rand == nil:
		return nil, errors.New("open audit log: Config.Rand is missing")
	}
	if err := Migrate(ctx, c.DB); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l := &Log{keys: c.Keys, rand: c.Rand, engine: c.DB.Engine()}
	l.log = db.NewTable("audit_log",
		db.Column{Name: "seq", Kind: db.Int},
		db.Column{Name: "id", Kind: db.UUID},
		db.Column{Name: "timestamp", Kind: db.Time},
		db.Column{Name: "user_id", Kind: db.UUID},
		db.Column{Name: "event_type", Kind: db.Text},
		db.Column{Name: "resource_type", Kind: db.Text},
		db.Column{Name: "resource_id", Kind: db.Text},
		db.Column{Name: "action", Kind: db.Text},
		db.Column{Name: "result", Kind: db.Text},
		db.Column{Name: "ip_address", Kind: db.Inet},
		db.Column{Name: "user_agent", Kind: db.Text},
		db.Column{Name: "details", Kind: db.JSON},
		db.Column{Name: "organisation", Kind: db.Int},
		db.Column{Name: "purpose", Kind: db.Text},
		db.Column{Name: "session_id", Kind: db.UUID},
		db.Column{Name: "request_id", Kind: db.UUID},
		db.Column{Name: "program", Kind: db.Text},
		db.Column{Name: "os_user", Kind: db.Text},
		db.Column{Name: "private_hash", Kind: db.Bytes},
		db.Column{Name: "salt", Kind: db.Bytes})
	l.details = db.NewTable("audit_detail",
		db.Column{Name: "seq", Kind: db.Int}, db.Column{Name: "id", Kind: db.UUID},
		db.Column{Name: "organisation", Kind: db.Int}, db.Column{Name: "sealed", Kind: db.Bytes})
	l.tiles = db.NewTable("audit_tile",
		db.Column{Name: "level", Kind: db.Int}, db.Column{Name: "number", Kind: db.Int},
		db.Column{Name: "hashes", Kind: db.Bytes}, db.Column{Name: "root", Kind: db.Bytes})
	l.selectPage = l.dialect(selectRecords)
	l.search = map[searchBy]string{}
	for by, sql := range searchSQL() {
		l.search[by] = l.dialect(sql)
	}
	return l, nil
}

// Append puts an act on record, inside its own transaction, and returns its place in the log. Several may be appended in one
// transaction; they stand in the order of their calls. An error means that the transaction must not commit.
func (l *Log) Append(tx *db.Tx, e Entry) (seq int64, err error) {
	if err := e.check(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line, err := tx.Line()
	if err != nil {
		return 0, err
	}
	if err := checkEdge(line.Tree, line.TreeSize); err != nil {
		return 0, err
	}
	l.growing.enter(tx, line.TreeSize)
	lost, err := l.grow(tx, line, &e)
	if err != nil {
		return 0, fmt.Errorf("audit entry %s: %w", e.Event, err)
	}
	seq = line.TreeSize - 1
	if lost != nil {
		// The tree itself is sound and so are the acts that go on it. That the rows under it are not belongs on record.
		alarm := Entry{Event: AuditFailed, Action: Create, Result: SeriousFailure, ResourceType: "audit-tile",
			Details: []Detail{Int("first", (seq+1)-tileWidth), Int("last", seq), Text("reason", lost.Error())}}
		if _, err := l.grow(tx, line, &alarm); err != nil {
			return 0, fmt.Errorf("audit entry %s: %w", alarm.Event, err)
		}
	}
	return seq, nil
}

// grow writes one row and takes the line one entry further. lost tells that a tile could not be kept; the entry is.
func (l *Log) grow(tx *db.Tx, line *db.Line, e *Entry) (lost, err error) {
	r := Record{Entry: *e, Seq: line.TreeSize, Time: tx.Now()}
	if r.Details, err = sorted(e.Details); err != nil {
		return nil, err
	}
	r.Agent = legible(e.Agent, maxAgent)
	r.IP = e.IP.Unmap().WithZone("")
	if e.Private != nil {
		if e.Private.org != e.Org {
			return nil, errors.New("its private part was sealed for another organisation")
		}
		r.PrivateHash = e.Private.hash[:]
	}
	var random [randomPart + saltSize]byte
	if _, err := io.ReadFull(l.rand, random[:]); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	r.ID = makeID(r.Seq, random[:randomPart])
	copy(r.salt[:], random[randomPart:])

	var leaf tlog.Hash
	leaf, l.buf = r.leafHash(l.buf)
	if err := l.insert(tx, &r); err != nil {
		return nil, err
	}
	if p := e.Private; p != nil {
		if err := tx.Insert(l.details, r.Seq, p.id, int64(p.org), p.sealed); err != nil {
			return nil, err
		}
	}
	var full [maxLevels]tlog.Hash
	var levels int
	line.Tree, levels = pushEdge(line.Tree, line.TreeSize, leaf, &full)
	line.TreeSize++
	l.growing.remember(r.Seq, leaf)
	if err := l.keepTiles(tx, line.TreeSize, full[:levels]); errors.Is(err, errTileLost) {
		return err, nil
	} else if err != nil {
		return nil, err
	}
	return nil, nil
}

// Root returns the size of the log and the hash of its tree.
func (l *Log) Root(tx *db.Tx) (size int64, root tlog.Hash, err error) {
	line, err := tx.Line()
	if err != nil {
		return 0, root, err
	}
	if err := checkEdge(line.Tree, line.TreeSize); err != nil {
		return 0, root, err
	}
	return line.TreeSize, edgeRoot(line.Tree), nil
}

// dialect writes a statement in the engine's form. {place} is what finds a row by its number: the row number on SQLite, and on
// PostgreSQL the id, which begins with it and is the primary key.
func (l *Log) dialect(sql string) string {
	r := strings.NewReplacer("{place}", "seq", "{ip}", "ip_address", "{details}", "details")
	if l.engine == db.PostgreSQL {
		r = strings.NewReplacer("{place}", "id", "{ip}", "ip_address::text", "{details}", "details::text")
	}
	return r.Replace(sql)
}

// place is the lowest value of {place} that belongs to a sequence.
func (l *Log) place(seq int64) any {
	if l.engine == db.PostgreSQL {
		return firstID(seq)
	}
	return seq
}
