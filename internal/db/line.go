package db

import (
	"bytes"
	"strconv"
	"strings"
)

const updateLine = `UPDATE line SET next = $1, tree_size = $2, tree = $3 WHERE id = 1`

func (tx *Tx) lineChanged() bool {
	l, was := tx.line, &tx.lineWas
	return l != nil && (l.Next != was.Next || l.TreeSize != was.TreeSize || !bytes.Equal(l.Tree, was.Tree))
}

func (tx *Tx) lineArgs() []any { return []any{tx.line.Next, tx.line.TreeSize, tx.line.Tree} }

// insertSQL is the statement for one row.
func (t *Table) insertSQL() string {
	if t.sql != "" {
		return t.sql
	}
	var names, places []string
	for i, c := range t.Columns {
		names = append(names, c.Name)
		places = append(places, "$"+strconv.Itoa(i+1))
	}
	return "INSERT INTO " + t.Name + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(places, ", ") + ")"
}

// NewTable names a table's columns in the order in which Insert takes their values.
func NewTable(name string, columns ...Column) *Table {
	t := &Table{Name: name, Columns: columns}
	t.bulk = t.bulkSQL()
	t.sql = t.insertSQL()
	return t
}

// bulkSQL inserts many rows from one array a column: about three times as fast on PostgreSQL as a statement a row.
// The types that have no array form in the driver travel as text.
func (t *Table) bulkSQL() string {
	var names, picks, arrays []string
	for i, c := range t.Columns {
		n := strconv.Itoa(i + 1)
		names = append(names, c.Name)
		pick := "c" + n
		var typ string
		switch c.Kind {
		case Int:
			typ = "bigint"
		case Text:
			typ = "text"
		case Bytes:
			typ = "bytea"
		case UUID:
			typ = "uuid"
		case Time:
			typ = "timestamptz"
		case Inet:
			typ, pick = "text", pick+"::inet"
		case JSON:
			typ, pick = "text", pick+"::jsonb"
		}
		picks = append(picks, pick)
		arrays = append(arrays, "$"+n+"::"+typ+"[]")
	}
	columns := make([]string, len(names))
	for i := range columns {
		columns[i] = "c" + strconv.Itoa(i+1)
	}
	return "INSERT INTO " + t.Name + " (" + strings.Join(names, ", ") + ") SELECT " + strings.Join(picks, ", ") +
		" FROM unnest(" + strings.Join(arrays, ", ") + ") AS row(" + strings.Join(columns, ", ") + ")"
}
