package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// ErrNoPrivate means that an entry has nothing sealed beside it: it never had, it is not this organisation's, or retention took it.
var ErrNoPrivate = errors.New("nothing is sealed beside this audit entry")

// A Private is what of an act is PHI, sealed and ready to be appended with an entry of the same organisation.
type Private struct {
	id     db.ID
	org    uint32
	sealed []byte
	hash   [sha256.Size]byte
}

// Seal seals what of an act is PHI, under the organisation's key for audit details of the month of at. It is done before the
// transaction, because a new month's key has to be on disk first.
func (l *Log) Seal(ctx context.Context, org uint32, at time.Time, plaintext []byte) (*Private, error) {
	p := &Private{org: org}
	if _, err := io.ReadFull(l.rand, p.id[:]); err != nil {
		return nil, fmt.Errorf("seal audit detail: draw its id: %w", err)
	}
	p.id[6] = 0x40 | p.id[6]&0x0f // UUID version 4: nothing is looked for by it
	p.id[8] = 0x80 | p.id[8]&0x3f
	var err error
	if p.sealed, err = l.keys.Seal(ctx, seal.AuditDetail, p.place(), at, plaintext); err != nil {
		return nil, fmt.Errorf("seal audit detail: %w", err)
	}
	p.hash = privateHash(p.id, p.org, p.sealed)
	return p, nil
}

func (p *Private) place() seal.Place {
	return seal.Place{Table: seal.TableAuditDetail, Column: seal.ColumnContent, Row: p.id, Org: p.org}
}

// privateHash is what an entry keeps of its private part: SHA-256 over the part's id, its organisation (4 bytes, big endian) and
// the sealed bytes, that is, over its whole row.
func privateHash(id db.ID, org uint32, sealed []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(id[:])
	h.Write(binary.BigEndian.AppendUint32(nil, org))
	h.Write(sealed)
	h.Sum(sum[:0])
	return sum
}

const selectDetail = `SELECT id, sealed FROM audit_detail WHERE seq = $1 AND organisation = $2`

// Private opens what is sealed beside an entry. The caller has made sure that its reader may see it, and puts the reading on record.
func (l *Log) Private(tx *db.Tx, org uint32, seq int64) ([]byte, error) {
	p := &Private{org: org}
	err := tx.QueryRow(selectDetail, []any{seq, int64(org)}, &p.id, &p.sealed)
	if errors.Is(err, db.ErrNoRows) {
		return nil, ErrNoPrivate
	}
	if err != nil {
		return nil, fmt.Errorf("read audit detail: %w", err)
	}
	return l.keys.Open(tx.Context(), p.place(), p.sealed)
}
