package audit

import (
	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

// Leaves hashes all rows of the log.
func (l *Log) Leaves(tx *db.Tx) (leaves []tlog.Hash, err error) {
	var buf []byte
	err = l.walk(tx, 0, 1<<40, func(r *Record, _ string) bool {
		var leaf tlog.Hash
		leaf, buf = r.leafHash(buf)
		leaves = append(leaves, leaf)
		return true
	})
	return leaves, err
}
