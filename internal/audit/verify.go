package audit

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

// A Difference is the first place at which the log is not what it was when it was written.
type Difference struct {
	Seq  int64 // the first entry that is concerned; where the tail has no tile yet, the first of the tail
	What string
}

func (d *Difference) Error() string { return fmt.Sprintf("audit log, entry %d: %s", d.Seq, d.What) }

// Verified is what Recompute found sound.
type Verified struct {
	Size    int64
	Root    tlog.Hash
	Private int64 // sealed parts that are there; retention may have taken others
}

// chunkTiles is how many tiles are checked at once.
const chunkTiles = 16

// Recompute hashes every row again and compares: each leaf with its tile, each tile with those above, everything with the right
// edge, each sealed part with its entry's hash. A *Difference tells the first that does not fit; other errors say that the check
// could not be done. progress, if not nil, hears how far it is. It sees one snapshot, where the transaction is one.
//
// It proves that rows, tiles and edge fit each other. That nobody wrote all of them anew takes a checkpoint from elsewhere.
func (l *Log) Recompute(tx *db.Tx, progress func(done, size int64)) (Verified, error) {
	size, root, err := l.Root(tx)
	if errors.Is(err, ErrTree) {
		return Verified{}, &Difference{0, err.Error()}
	}
	if err != nil {
		return Verified{}, err
	}
	c := &checker{log: l, tx: tx, size: size}
	for c.done < size {
		if err := tx.Context().Err(); err != nil {
			return Verified{}, err
		}
		if err := c.chunk(min(c.done+chunkTiles*tileWidth, size)); err != nil {
			return Verified{}, err
		}
		if progress != nil {
			progress(c.done, size)
		}
	}
	if err := c.upperTiles(); err != nil {
		return Verified{}, err
	}
	if edgeRoot(c.edge) != root {
		return Verified{}, &Difference{size &^ (tileWidth - 1), "from here on, entries or the tree's right edge were changed"}
	}
	if err := c.strangers(); err != nil {
		return Verified{}, err
	}
	return Verified{size, root, c.private}, nil
}

// A checker goes through the log once.
type checker struct {
	log  *Log
	tx   *db.Tx
	size int64

	done    int64
	edge    []byte
	roots   []tlog.Hash // of the tiles of level 0
	private int64
	buf     []byte
}

// chunk checks the entries from done, which begins a tile, up to end.
func (c *checker) chunk(end int64) error {
	first := c.done
	leaves := make([]tlog.Hash, 0, end-first)
	private := map[int64][]byte{} // hashes that entries of this chunk keep of their sealed parts
	var found *Difference
	err := c.log.walk(c.tx, first, end, func(r *Record, bad string) bool {
		next := first + int64(len(leaves))
		switch {
		case r.Seq > next:
			found = &Difference{next, "it is missing"}
		case r.Seq < next:
			found = &Difference{next, "another entry stands in its place"}
		case bad != "":
			found = &Difference{next, bad}
		default:
			var leaf tlog.Hash
			leaf, c.buf = r.leafHash(c.buf)
			leaves = append(leaves, leaf)
			if r.PrivateHash != nil {
				private[r.Seq] = r.PrivateHash
			}
		}
		return found == nil
	})
	if err != nil {
		return err
	}
	if next := first + int64(len(leaves)); found == nil && next < end {
		found = &Difference{next, "it is missing"}
	}
	// What a tile tells of entries before found comes first.
	if err := c.tiles(first, leaves); err != nil {
		return err
	}
	if found != nil {
		return found
	}
	if err := c.sealedParts(first, end, private); err != nil {
		return err
	}
	for i, leaf := range leaves {
		var full [maxLevels]tlog.Hash
		var levels int
		if c.edge, levels = pushEdge(c.edge, first+int64(i), leaf, &full); levels > 0 {
			c.roots = append(c.roots, full[0])
		}
	}
	c.done = end
	return nil
}

const selectTiles = `SELECT number, hashes, root FROM audit_tile WHERE level = $1 AND number >= $2 AND number < $3 ORDER BY number`

// tiles compares leaves, of which the first begins a tile, with the tiles that should hold them.
func (c *checker) tiles(first int64, leaves []tlog.Hash) error {
	from := first / tileWidth
	next := from
	upto := min(from+(int64(len(leaves))+tileWidth-1)/tileWidth, c.size/tileWidth)
	rows, err := c.tx.Query(selectTiles, int64(0), from, upto)
	if err != nil {
		return fmt.Errorf("read audit tiles: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var joined, root []byte
		if err := rows.Scan(&n, &joined, &root); err != nil {
			return fmt.Errorf("read audit tiles: %w", err)
		}
		var hashes [tileWidth]tlog.Hash
		if n != next || !splitTile(joined, &hashes) {
			break // reported as missing, below
		}
		start := n*tileWidth - first
		for i := range min(tileWidth, int64(len(leaves))-start) {
			if leaves[start+i] != hashes[i] {
				return &Difference{n*tileWidth + i, "it was changed, or its tile was"}
			}
		}
		if full := tileRoot(&hashes); !bytes.Equal(root, full[:]) {
			return &Difference{n * tileWidth, "its tile's root was changed"}
		}
		next++
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read audit tiles: %w", err)
	}
	if next < upto {
		return &Difference{next * tileWidth, "its tile is missing or cut"}
	}
	return nil
}

// upperTiles checks the tiles above level 0, which are made of the roots below them.
func (c *checker) upperTiles() error {
	below := c.roots
	for level := int64(1); len(below) >= tileWidth; level++ {
		var above []tlog.Hash
		rows, err := c.tx.Query(selectTiles, level, int64(0), int64(len(below)/tileWidth))
		if err != nil {
			return fmt.Errorf("read audit tiles: %w", err)
		}
		for rows.Next() {
			var n int64
			var joined, root []byte
			if err := rows.Scan(&n, &joined, &root); err != nil {
				rows.Close()
				return fmt.Errorf("read audit tiles: %w", err)
			}
			want := (*[tileWidth]tlog.Hash)(below[len(above)*tileWidth:])
			full := tileRoot(want)
			if n != int64(len(above)) || !bytes.Equal(joined, joinTile(want)) || !bytes.Equal(root, full[:]) {
				break
			}
			above = append(above, full)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return fmt.Errorf("read audit tiles: %w", err)
		}
		if len(above) < len(below)/tileWidth {
			return &Difference{int64(len(above)) << (tileHeight * (level + 1)), fmt.Sprintf("its tile of level %d is missing or was changed", level)}
		}
		below = above
	}
	return nil
}

const selectDetails = `SELECT seq, id, organisation, sealed FROM audit_detail WHERE seq >= $1 AND seq < $2 ORDER BY seq`

// sealedParts compares the sealed parts that are there with the hashes that their entries keep.
func (c *checker) sealedParts(first, end int64, private map[int64][]byte) error {
	rows, err := c.tx.Query(selectDetails, first, end)
	if err != nil {
		return fmt.Errorf("read audit details: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq, org int64
		var id db.ID
		var sealed []byte
		if err := rows.Scan(&seq, &id, &org, &sealed); err != nil {
			return fmt.Errorf("read audit details: %w", err)
		}
		hash := privateHash(id, uint32(org), sealed)
		if int64(uint32(org)) != org || !bytes.Equal(hash[:], private[seq]) {
			return &Difference{seq, "its sealed part was changed or put there"}
		}
		c.private++
	}
	return rows.Err()
}

// strangers finds rows that lie outside the log's size. Each statement asks for one end of one index.
func (c *checker) strangers() error {
	level := int64(0)
	for tiles := c.size / tileWidth; ; tiles /= tileWidth {
		if err := c.none(`SELECT COUNT(*) FROM audit_tile WHERE level = $1 AND number < 0`, level); err != nil {
			return err
		}
		if err := c.none(`SELECT COUNT(*) FROM audit_tile WHERE level = $1 AND number >= $2`, level, tiles); err != nil {
			return err
		}
		level++
		if tiles == 0 {
			break
		}
	}
	if err := c.none(`SELECT COUNT(*) FROM audit_tile WHERE level < 0 OR level >= $1`, level); err != nil {
		return err
	}
	for _, q := range []struct {
		sql   string
		bound any
	}{
		{`SELECT COUNT(*) FROM audit_detail WHERE seq < $1`, int64(0)},
		{`SELECT COUNT(*) FROM audit_detail WHERE seq >= $1`, c.size},
		{c.log.dialect(`SELECT COUNT(*) FROM audit_log WHERE {place} < $1`), c.log.place(0)},
		{c.log.dialect(`SELECT COUNT(*) FROM audit_log WHERE {place} >= $1`), c.log.place(c.size)},
	} {
		if err := c.none(q.sql, q.bound); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) none(sql string, args ...any) error {
	var n int64
	if err := c.tx.QueryRow(sql, args, &n); err != nil {
		return fmt.Errorf("look for rows outside the audit log: %w", err)
	}
	if n != 0 {
		return &Difference{c.size, "rows were put behind the log's end, or before its beginning"}
	}
	return nil
}
