package audit

import (
	"fmt"

	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/seal"
)

const (
	selectOldDetails = `SELECT seq, sealed FROM audit_detail WHERE seq >= $1 AND organisation = $2 ORDER BY seq LIMIT $3`
	dropDetail       = `DELETE FROM audit_detail WHERE seq = $1 AND organisation = $2`
)

// DropPrivate deletes the sealed parts of a month, of which the keys are destroyed already, among the next limit parts from a place
// in the log on. Their entries stay and keep the hashes, so the tree and every old proof hold. next is where to go on; -1: there is
// nothing of the month behind.
func (l *Log) DropPrivate(tx *db.Tx, org uint32, p seal.Period, from int64, limit int) (dropped, next int64, err error) {
	rows, err := tx.Query(selectOldDetails, from, int64(org), limit)
	if err != nil {
		return 0, 0, fmt.Errorf("drop audit details of %s: %w", p, err)
	}
	defer rows.Close()
	var old []int64
	seen := 0
	next = -1
	for rows.Next() {
		var seq int64
		var sealed []byte
		if err := rows.Scan(&seq, &sealed); err != nil {
			return 0, 0, fmt.Errorf("drop audit details of %s: %w", p, err)
		}
		seen++
		next = seq + 1
		id, ok := seal.KeyOf(sealed)
		switch {
		case ok && id.Period() == p:
			old = append(old, seq)
		case ok && id.Period() > p+1: // parts are sealed shortly before they are appended
			seen = -1
		}
		if seen < 0 {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return 0, 0, fmt.Errorf("drop audit details of %s: %w", p, err)
	}
	rows.Close()
	for _, seq := range old {
		n, err := tx.Exec(dropDetail, seq, int64(org))
		if err != nil {
			return 0, 0, fmt.Errorf("drop audit details of %s: %w", p, err)
		}
		dropped += n
	}
	if seen < limit {
		next = -1
	}
	return dropped, next, nil
}
