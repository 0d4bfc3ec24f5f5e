package faults

import (
	"math/rand/v2"
	"slices"
)

// event is one thing that a disk has recorded. The order of events is the order in which they happened: a write stands before
// it is made, a sync after it has returned.
type event struct {
	op   Op // 0: a note of the test
	file string
	at   int64
	data []byte
	upto int  // Sync: how many events were there when it began; of those, what concerns the file is durable
	dir  bool // Sync: the directory was synced too, so names that came or went before upto are durable
	note int
}

// Record starts to keep all that is written.
func (d *Disk) Record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record = true
}

func (d *Disk) note(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.record {
		return
	}
	e.data = slices.Clone(e.data)
	d.events = append(d.events, e)
}

func (d *Disk) now() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events)
}

// Note records that something has left the house: an acknowledgement, with its number.
func (d *Disk) Note(n int) { d.note(event{note: n}) }

// A Moment is a place in the recording.
type Moment int

// Noted lists the moments right after each note, with what had been noted until then.
func (d *Disk) Noted() (at []Moment, notes []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range d.events {
		if e.op == 0 {
			at, notes = append(at, Moment(i+1)), append(notes, e.note)
		}
	}
	return at, notes
}

// Of lists the moments right before and right after each operation of a kind on a file.
func (d *Disk) Of(op Op, file string) (at []Moment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range d.events {
		if e.op == op && e.file == file {
			at = append(at, Moment(i), Moment(i+1))
		}
	}
	return at
}

// End is the moment after everything.
func (d *Disk) End() Moment { return Moment(d.now()) }

// Unsynced says what becomes of writes that no sync has made durable.
type Unsynced uint8

// What a power loss may leave of them: nothing, everything, or some sectors of some.
const (
	Lost Unsynced = iota + 1
	Kept
	Torn
)

// String names it for the test's output.
func (u Unsynced) String() string { return [...]string{"", "lost", "kept", "torn"}[u] }

const sector = 512

// After builds the files as a power loss at a moment may have left them. Of unsynced writes it leaves what u says, by lot where
// they are torn. ignore, if not nil, names files whose syncs do not count: so a test shows that it would notice a missing one.
func (d *Disk) After(at Moment, u Unsynced, lot *rand.Rand, ignore func(file string) bool) map[string][]byte {
	d.mu.Lock()
	events := d.events[:at]
	d.mu.Unlock()
	durable, names := map[string]int{}, 0 // events before these are on the disk: of each file, and of the directory
	for _, e := range events {
		if e.op != Sync || ignore != nil && ignore(e.file) {
			continue
		}
		durable[e.file] = max(durable[e.file], e.upto)
		if e.dir {
			names = max(names, e.upto)
		}
	}
	files, other := map[string][]byte{}, map[string]bool{} // other: what is written goes to a file of which no name is left
	for i, e := range events {
		if e.op == Sync || e.op == 0 {
			continue
		}
		safe := i < durable[e.file]
		if e.op == Delete {
			if i < names || u == Kept || u == Torn && lot.IntN(2) == 0 {
				delete(files, e.file)
				other[e.file] = false
			} else {
				other[e.file] = true
			}
			continue
		}
		if _, there := files[e.file]; !there && i >= names && u == Lost || other[e.file] {
			other[e.file] = true
			continue
		}
		if e.op == Truncate {
			if safe || u == Kept || u == Torn && lot.IntN(2) == 0 {
				files[e.file] = resize(files[e.file], e.at)
			}
			continue
		}
		files[e.file] = write(files[e.file], e, func() bool { return safe || u == Kept || u == Torn && lot.IntN(2) == 0 })
	}
	return files
}

// write puts an event's bytes into a file, sector by sector as take says.
func write(b []byte, e event, take func() bool) []byte {
	for from := e.at; from < e.at+int64(len(e.data)); {
		upto := min((from/sector+1)*sector, e.at+int64(len(e.data)))
		if take() {
			if int64(len(b)) < upto {
				b = resize(b, upto)
			}
			copy(b[from:upto], e.data[from-e.at:])
		}
		from = upto
	}
	return b
}

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}
