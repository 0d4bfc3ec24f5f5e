package audit

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/lazaret-health/lazaret/internal/db"
	"golang.org/x/mod/sumdb/tlog"
)

// The tree is RFC 6962's (section 2.1). Its right edge, the roots of the perfect subtrees that a size splits into, biggest first,
// lies in the row of numbers: one version byte, then 32 bytes each, one a bit that is set in the size. So an append costs two
// hashes on average and no read, and no entry is without a place.
//
// Tiles are kept when they are complete, and only then: 256 hashes of one level, level 0 being leaves (C2SP tlog-tiles with
// height 8), so that proofs and checks need no rows. What a tile has not got yet is hashed from the rows again.

const (
	edgeVersion = 1
	tileHeight  = 8
	tileWidth   = 1 << tileHeight
	maxLevels   = 63/tileHeight + 1
)

// ErrTree means that the row of numbers holds no right edge that fits its size: it was changed from outside. Nothing can be put on
// record any more; "lazaret audit verify" tells more.
var ErrTree = errors.New("audit tree's right edge does not fit its size")

// checkEdge says whether b is an edge of a tree of this size.
func checkEdge(b []byte, size int64) error {
	switch {
	case size == 0 && len(b) == 0:
		return nil
	case size < 0 || len(b) != 1+tlog.HashSize*bits.OnesCount64(uint64(size)) || b[0] != edgeVersion:
		return ErrTree
	}
	return nil
}

// pushEdge adds a leaf to the edge of a tree of this size, in place where b has room. full receives the root of each tile that the
// leaf completes, by level, and how many there are comes back.
func pushEdge(b []byte, size int64, leaf tlog.Hash, full *[maxLevels]tlog.Hash) (edge []byte, levels int) {
	if len(b) == 0 {
		b = append(make([]byte, 0, 1+24*tlog.HashSize), edgeVersion)
	}
	h := leaf
	for height := 1; size&1 == 1; height++ {
		h = tlog.NodeHash(tlog.Hash(b[len(b)-tlog.HashSize:]), h)
		b = b[:len(b)-tlog.HashSize]
		size >>= 1
		if height%tileHeight == 0 {
			full[levels] = h
			levels++
		}
	}
	return append(b, h[:]...), levels
}

// edgeRoot is the hash of the whole tree.
func edgeRoot(b []byte) tlog.Hash {
	if len(b) == 0 {
		h, _ := tlog.TreeHash(0, nil) // SHA-256 of nothing
		return h
	}
	at := len(b) - tlog.HashSize
	h := tlog.Hash(b[at:])
	for at > 1 {
		at -= tlog.HashSize
		h = tlog.NodeHash(tlog.Hash(b[at:]), h)
	}
	return h
}

// tileRoot hashes a tile's 256 hashes to one.
func tileRoot(hashes *[tileWidth]tlog.Hash) tlog.Hash {
	level := *hashes
	for n := tileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
	}
	return level[0]
}

func joinTile(hashes *[tileWidth]tlog.Hash) []byte {
	b := make([]byte, 0, tileWidth*tlog.HashSize)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func splitTile(b []byte, hashes *[tileWidth]tlog.Hash) bool {
	if len(b) != tileWidth*tlog.HashSize {
		return false
	}
	for i := range hashes {
		hashes[i] = tlog.Hash(b[i*tlog.HashSize:])
	}
	return true
}

// growing is what a process remembers of the tile that is under way: the leaves that it added itself. It is a shortcut and never
// believed: a tile's root must be the one that the edge gives, or else rows are read again. (A group that failed, or another
// replica, leaves wrong leaves here.)
type growing struct {
	tx    *db.Tx // the transaction that the two below belong to
	base  int64  // the tree's size when it began: rows before it can be read
	tiles map[tileID]tlog.Hash

	seqs   [tileWidth]int64 // which leaf stands in leaves, plus one; 0: none
	leaves [tileWidth]tlog.Hash
}

type tileID struct{ level, number int64 }

// enter notes which transaction is under way.
func (g *growing) enter(tx *db.Tx, size int64) {
	if g.tx != tx {
		g.tx, g.base = tx, size
		clear(g.tiles)
	}
}

func (g *growing) remember(seq int64, leaf tlog.Hash) {
	g.seqs[seq%tileWidth], g.leaves[seq%tileWidth] = seq+1, leaf
}

// keepTiles writes the tiles that the leaf before size completed; roots are theirs, by level.
func (l *Log) keepTiles(tx *db.Tx, size int64, roots []tlog.Hash) error {
	for level, root := range roots {
		id := tileID{int64(level), size>>(tileHeight*(level+1)) - 1}
		hashes, err := l.collect(tx, id, root)
		if err != nil {
			return fmt.Errorf("tile %d of level %d: %w", id.number, id.level, err)
		}
		if err := tx.Insert(l.tiles, id.level, id.number, joinTile(hashes), root[:]); err != nil {
			return err
		}
		if l.growing.tiles == nil {
			l.growing.tiles = map[tileID]tlog.Hash{}
		}
		l.growing.tiles[id] = root
	}
	return nil
}

// errTileLost means that what a tile is made of no longer hashes to what the tree grew from.
var errTileLost = errors.New("its parts are not those that the tree grew from")

// collect finds the 256 hashes that make up a tile: from memory, or else from rows and lower tiles.
func (l *Log) collect(tx *db.Tx, id tileID, root tlog.Hash) (*[tileWidth]tlog.Hash, error) {
	g := &l.growing
	hashes := new([tileWidth]tlog.Hash)
	first := id.number * tileWidth
	if id.level > 0 {
		if err := l.lowerRoots(tx, id.level-1, first, hashes); err != nil {
			return nil, err
		}
		for i := range hashes {
			if h, ok := g.tiles[tileID{id.level - 1, first + int64(i)}]; ok {
				hashes[i] = h
			}
		}
	} else {
		known := true
		for i := range hashes {
			known = known && g.seqs[i] == first+int64(i)+1
		}
		if *hashes = g.leaves; known && tileRoot(hashes) == root {
			return hashes, nil
		}
		if err := l.leavesFromRows(tx, first, min(first+tileWidth, g.base), hashes); err != nil {
			return nil, err
		}
	}
	if tileRoot(hashes) != root {
		return nil, errTileLost
	}
	return hashes, nil
}

const selectRoots = `SELECT number, root FROM audit_tile WHERE level = $1 AND number >= $2 AND number < $3`

// lowerRoots reads the roots of 256 tiles.
func (l *Log) lowerRoots(tx *db.Tx, level, first int64, hashes *[tileWidth]tlog.Hash) error {
	rows, err := tx.Query(selectRoots, level, first, first+tileWidth)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var root []byte
		if err := rows.Scan(&n, &root); err != nil {
			return err
		}
		if len(root) == tlog.HashSize {
			hashes[n-first] = tlog.Hash(root)
		}
	}
	return rows.Err()
}

// leavesFromRows hashes the rows from first up to end again.
func (l *Log) leavesFromRows(tx *db.Tx, first, end int64, hashes *[tileWidth]tlog.Hash) error {
	var buf []byte
	err := l.walk(tx, first, end, func(r *Record, bad string) bool {
		if bad == "" && r.Seq >= first && r.Seq < end {
			hashes[r.Seq-first], buf = r.leafHash(buf)
		}
		return true
	})
	return err
}
