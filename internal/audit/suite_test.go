package audit_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/db/dbtest"
	"github.com/lazaret-health/lazaret/internal/seal"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/tlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A book is a log over a database of its own. All that is written into it is invented.
type book struct {
	testing.TB
	db  *db.DB
	log *audit.Log
}

func openBook(t testing.TB, address string, change ...func(*db.Config)) *book {
	t.Helper()
	c := dbtest.Config(t, address)
	for _, f := range change {
		f(&c)
	}
	d := dbtest.Open(t, c)
	return &book{t, d, openLog(t, d)}
}

func openLog(t testing.TB, d *db.DB) *audit.Log {
	t.Helper()
	l, err := audit.New(t.Context(), audit.Config{DB: d, Keys: openRing(t), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openRing(t testing.TB) *seal.Ring {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "root", "key")
	if err := seal.CreateFileRoot(path); err != nil {
		t.Fatal(err)
	}
	root, err := seal.FileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := seal.DirStore(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := seal.Open(t.Context(), seal.Config{Root: root, Store: store, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// accepted is an entry as the engine writes one for a message, with every kind of field filled.
func accepted(n int) audit.Entry {
	return audit.Entry{
		Event: audit.MessageAccepted, Action: audit.Create, Result: audit.Success,
		Org: 7, Program: "adt-in", ResourceType: "message", ResourceID: fmt.Sprintf("0193e0a0-0000-7000-8000-%012d", n),
		Session: db.ID{1, 2, 3}, IP: netip.MustParseAddr("192.0.2.17"),
		Details: []audit.Detail{audit.Text("type", "ADT^A01"), audit.Int("bytes", 1250), audit.Bool("flagged", false)},
	}
}

func (b *book) append(entries ...audit.Entry) (last int64) {
	b.Helper()
	err := b.db.Commit(context.Background(), 1, func(tx *db.Tx) (err error) {
		for _, e := range entries {
			if last, err = b.log.Append(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return last
}

// fill appends n entries, many in a transaction.
func (b *book) fill(n int) {
	b.Helper()
	for from := 0; from < n; from += 100 {
		var es []audit.Entry
		for i := from; i < min(from+100, n); i++ {
			es = append(es, accepted(i))
		}
		b.append(es...)
	}
}

func (b *book) read(f func(*db.Tx) error) {
	b.Helper()
	if err := b.db.Read(context.Background(), f); err != nil {
		b.Fatal(err)
	}
}

func (b *book) recompute() (v audit.Verified, err error) {
	b.Helper()
	err = b.db.Read(context.Background(), func(tx *db.Tx) (err error) {
		v, err = b.log.Recompute(tx, nil)
		return err
	})
	return v, err
}

func (b *book) mustVerify(size int64) audit.Verified {
	b.Helper()
	v, err := b.recompute()
	if err != nil {
		b.Fatalf("the log does not verify: %v", err)
	}
	if v.Size != size {
		b.Fatalf("the log has %d entries, want %d", v.Size, size)
	}
	return v
}

func (b *book) search(q audit.Query) (p audit.Page) {
	b.Helper()
	b.read(func(tx *db.Tx) (err error) {
		p, err = b.log.Search(tx, q)
		return err
	})
	return p
}

func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, address string)
	}{
		{"an entry comes back as it was written", testRoundTrip},
		{"the tree is RFC 6962's, whatever the sizes of the groups", testTreeAgainstOracle},
		{"many at once leave no gap", testConcurrentGroups},
		{"a failed act leaves no hole", testFailedAct},
		{"a lost answer leaves a log that verifies", testLostAnswer},
		{"another replica's entries and a restart do not disturb the tiles", testReplicas},
		{"nothing is changed or deleted", testAppendOnly},
		{"search finds by each way in, a page at a time", testSearch},
		{"private parts are sealed, bound and may go", testPrivate},
		{"an act that cannot go on record does not happen", testRefused},
		{"a stranger's bytes do not keep an act off the record", testStrangeBytes},
	} {
		t.Run(c.name, func(t *testing.T) { dbtest.Each(t, c.test) })
	}
}

func testRoundTrip(t *testing.T, address string) {
	now := time.Date(2026, 11, 25, 9, 30, 15, 123456789, time.FixedZone("east", 3600))
	b := openBook(t, address, func(c *db.Config) { c.Now = func() time.Time { return now } })
	full := accepted(1)
	full.User, full.Request, full.Purpose, full.OSUser, full.Agent = db.ID{9}, db.ID{8}, "TREAT", "operator", "invented/1.0"
	full.IP = netip.MustParseAddr("2001:db8::17")
	full.Details = []audit.Detail{audit.Text("zeta", "quotes \" \\ tab\t newline\n \u007f \u2028 ü 漢 \U0001F3E5"), audit.Bool("yes", true),
		audit.Bool("no", false), audit.Int("least", -1<<63), audit.Int("most", 1<<63-1), audit.Text("a", ""), audit.Text("aa", "<&>")}
	bare := audit.Entry{Event: audit.ServiceStarted, Action: audit.Execute, Result: audit.Success}
	mapped := bare
	mapped.IP = netip.MustParseAddr("::ffff:192.0.2.1%eth0")
	b.append(full, bare, mapped)
	v := b.mustVerify(3)
	if v.Root == (tlog.Hash{}) {
		t.Error("no root")
	}
	got := b.search(audit.Query{AllOrgs: true}).Records
	if len(got) != 3 {
		t.Fatalf("found %d of 3", len(got))
	}
	want := []audit.Entry{full, bare, mapped}
	want[0].Details = []audit.Detail{full.Details[5], full.Details[6], full.Details[3], full.Details[4], full.Details[2], full.Details[1], full.Details[0]}
	want[2].IP = netip.MustParseAddr("192.0.2.1")
	for i, f := range got {
		if !reflect.DeepEqual(f.Entry, want[i]) {
			t.Errorf("entry %d came back as\n%+v\nwant\n%+v", i, f.Entry, want[i])
		}
		if f.Seq != int64(i) || f.ID.IsZero() || !f.Time.Equal(now.Truncate(time.Microsecond)) || f.Damage != "" {
			t.Errorf("entry %d has sequence %d, id %s, time %s, damage %q", i, f.Seq, f.ID, f.Time, f.Damage)
		}
	}
}

func testTreeAgainstOracle(t *testing.T, address string) {
	b := openBook(t, address)
	if v := b.mustVerify(0); v.Root != mustTreeHash(t, nil) {
		t.Errorf("the empty tree has root %s", v.Root)
	}
	size, step := 0, 1
	for size < 1100 {
		n := min(step, 1100-size)
		var es []audit.Entry
		for i := range n {
			es = append(es, accepted(size+i))
		}
		b.append(es...)
		size, step = size+n, step*2%701+1 // groups of many sizes: within a tile, over one border, over several
		var leaves []tlog.Hash
		b.read(func(tx *db.Tx) error {
			var err error
			leaves, err = b.log.Leaves(tx)
			return err
		})
		v := b.mustVerify(int64(size))
		if want := mustTreeHash(t, leaves); v.Root != want {
			t.Fatalf("at size %d the root is %s, want %s", size, v.Root, want)
		}
	}
}

// mustTreeHash is the oracle: golang.org/x/mod/sumdb/tlog builds the tree from leaves.
func mustTreeHash(t *testing.T, leaves []tlog.Hash) tlog.Hash {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, leaf := range leaves {
		more, err := tlog.StoredHashesForRecordHash(int64(i), leaf, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	h, err := tlog.TreeHash(int64(len(leaves)), read)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func testConcurrentGroups(t *testing.T, address string) {
	b := openBook(t, address)
	const workers, each = 16, 40
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			last := int64(-1)
			for i := range each {
				var seq int64
				err := b.db.Commit(context.Background(), 100, func(tx *db.Tx) (err error) {
					seq, err = b.log.Append(tx, accepted(w*each+i))
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[seq] || seq <= last {
					t.Errorf("place %d came after %d, or twice", seq, last)
				}
				seen[seq], last = true, seq
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range int64(workers * each) {
		if !seen[i] {
			t.Errorf("nobody got place %d", i)
		}
	}
	b.mustVerify(workers * each)
}

var errChanged = errors.New("invented change of mind")

func testFailedAct(t *testing.T, address string) {
	b := openBook(t, address)
	b.fill(250)
	for i := range 20 { // over the border of a tile, each second act fails after its entry
		err := b.db.Commit(context.Background(), 1, func(tx *db.Tx) error {
			if _, err := b.log.Append(tx, accepted(1000+i)); err != nil {
				return err
			}
			if i%2 == 0 {
				return errChanged
			}
			return nil
		})
		if (i%2 == 0) != errors.Is(err, errChanged) {
			t.Fatalf("act %d: %v", i, err)
		}
	}
	b.mustVerify(260)
	for _, f := range b.search(audit.Query{AllOrgs: true, Seq: 250}).Records {
		if f.Event != audit.MessageAccepted {
			t.Errorf("entry %d is %s", f.Seq, f.Event)
		}
	}
}

func testLostAnswer(t *testing.T, address string) {
	var fail db.Stage
	b := openBook(t, address, func(c *db.Config) {
		c.Fault = func(s db.Stage) error {
			if s == fail {
				fail = 0
				return errChanged
			}
			return nil
		}
	})
	b.fill(200)
	for i := range 60 {
		fail = []db.Stage{0, db.BeforeCommit, db.AfterCommit}[i%3]
		err := b.db.Commit(context.Background(), 1, func(tx *db.Tx) error {
			_, err := b.log.Append(tx, accepted(1000+i))
			return err
		})
		if (i%3 == 0) != (err == nil) {
			t.Fatalf("act %d: %v", i, err)
		}
	}
	if fail != 0 {
		t.Error("a fault never came")
	}
	b.mustVerify(200 + 20 + 20) // those before the commit are gone, those after it were kept
	var entries audit.Page
	if entries = b.search(audit.Query{AllOrgs: true, Event: audit.AuditFailed}); len(entries.Records) != 0 {
		t.Errorf("%d alarms", len(entries.Records))
	}
}

func testReplicas(t *testing.T, address string) {
	b := openBook(t, address)
	other := &book{t, b.db, openLog(t, b.db)} // a second process's log over the same database
	for i := range 30 {
		b.fill(17)
		other.fill(11 + i%3)
		if i%7 == 6 {
			other.log = openLog(t, b.db) // it restarts
		}
	}
	size := int64(30*17 + 30*11 + 30)
	b.mustVerify(size)
	if b.db.Engine() == db.PostgreSQL { // and at the same time, each over its own connections
		other = openBook(t, address)
		var wg sync.WaitGroup
		for _, replica := range []*book{b, other, b, other} {
			wg.Go(func() {
				for i := range 150 {
					err := replica.db.Commit(context.Background(), 1, func(tx *db.Tx) error {
						_, err := replica.log.Append(tx, accepted(i))
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.mustVerify(size + 600)
	}
	if n := len(b.search(audit.Query{AllOrgs: true, Event: audit.AuditFailed}).Records); n != 0 {
		t.Errorf("%d alarms", n)
	}
}

func testAppendOnly(t *testing.T, address string) {
	b := openBook(t, address)
	b.fill(300)
	p, err := b.log.Seal(t.Context(), 7, time.Now(), []byte("invented"))
	if err != nil {
		t.Fatal(err)
	}
	e := accepted(0)
	e.Private = p
	b.append(e)
	statements := []string{
		"UPDATE audit_log SET result = 'success'", "UPDATE audit_log SET result = 'success' WHERE seq = 3", "DELETE FROM audit_log WHERE seq = 3",
		"UPDATE audit_tile SET root = hashes", "DELETE FROM audit_tile", "UPDATE audit_detail SET sealed = sealed",
	}
	if b.db.Engine() == db.PostgreSQL {
		statements = append(statements, "TRUNCATE audit_log", "TRUNCATE audit_tile")
	}
	for _, sql := range statements {
		err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
			_, err := tx.Exec(sql)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "the audit log takes entries and never") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	b.mustVerify(301)
}

func testSearch(t *testing.T, address string) {
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	b := openBook(t, address, func(c *db.Config) { c.Now = func() time.Time { return now } })
	reader := db.ID{0xaa}
	for i := range 60 { // one a minute: messages of two organisations, every tenth read by somebody
		e := accepted(i % 20)
		e.Org = uint32(7 + i%2)
		if i%10 == 0 {
			e.Event, e.Action, e.User, e.Purpose = audit.ContentRead, audit.Read, reader, "TREAT"
		}
		b.append(e)
		now = now.Add(time.Minute)
	}
	start := now.Add(-time.Hour)
	for _, c := range []struct {
		name string
		q    audit.Query
		want []int64
	}{
		{"one organisation does not see another", audit.Query{Org: 8, From: start, Until: start.Add(6 * time.Minute)}, []int64{1, 3, 5}},
		{"an organisation without entries sees none", audit.Query{Org: 9}, nil},
		{"a time's beginning is in, its end is out", audit.Query{AllOrgs: true, From: start.Add(2 * time.Minute), Until: start.Add(4 * time.Minute)}, []int64{2, 3}},
		{"by event", audit.Query{AllOrgs: true, Event: audit.ContentRead}, []int64{0, 10, 20, 30, 40, 50}},
		{"by person", audit.Query{Org: 7, User: reader, Limit: 3}, []int64{0, 10, 20}},
		{"by person from a place on", audit.Query{Org: 7, User: reader, Seq: 21}, []int64{30, 40, 50}},
		{"by person whom nobody knows", audit.Query{Org: 7, User: db.ID{1}}, nil},
		{"by resource", audit.Query{Org: 7, ResourceType: "message", ResourceID: accepted(4).ResourceID}, []int64{4, 24, 44}},
		{"by resource and event", audit.Query{Org: 7, ResourceType: "message", ResourceID: accepted(10).ResourceID, Event: audit.ContentRead}, []int64{10, 30, 50}},
		{"by resource that is another organisation's", audit.Query{Org: 8, ResourceType: "message", ResourceID: accepted(4).ResourceID}, nil},
		{"by type of resource", audit.Query{Org: 7, ResourceType: "message", Seq: 55}, []int64{56, 58}},
		{"by type that is none", audit.Query{AllOrgs: true, ResourceType: "delivery"}, nil},
		{"from a place on", audit.Query{AllOrgs: true, Seq: 57}, []int64{57, 58, 59}},
		{"beyond the end", audit.Query{AllOrgs: true, Seq: 60}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int64
			for _, f := range b.search(c.q).Records {
				got = append(got, f.Seq)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
	var paged []int64
	q := audit.Query{AllOrgs: true, Limit: 7}
	for {
		p := b.search(q)
		for _, f := range p.Records {
			paged = append(paged, f.Seq)
		}
		if q.Seq = p.Next; q.Seq == 0 {
			break
		}
	}
	for i, seq := range paged {
		if seq != int64(i) || len(paged) != 60 {
			t.Fatalf("pages give %v", paged)
		}
	}
	b.read(func(tx *db.Tx) error {
		for _, bad := range []audit.Query{{Limit: 1001}, {Limit: -1}, {ResourceID: "x"}, {ResourceType: "message", User: reader}} {
			if _, err := b.log.Search(tx, bad); err == nil {
				t.Errorf("%+v was searched for", bad)
			}
		}
		return nil
	})
}

func testPrivate(t *testing.T, address string) {
	b := openBook(t, address)
	seal := func(org uint32, text string) *audit.Private {
		p, err := b.log.Seal(t.Context(), org, time.Now(), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	e := accepted(1)
	e.Event, e.Action = audit.ContentRead, audit.Read
	e.Private = seal(7, "INVENTED^NAME was looked at")
	seq := b.append(accepted(0), e)
	if v := b.mustVerify(2); v.Private != 1 {
		t.Errorf("%d sealed parts checked, want 1", v.Private)
	}
	b.read(func(tx *db.Tx) error {
		got, err := b.log.Private(tx, 7, seq)
		if err != nil || string(got) != "INVENTED^NAME was looked at" {
			t.Errorf("opened %q, %v", got, err)
		}
		for _, c := range []struct {
			org uint32
			seq int64
		}{{7, 0}, {8, seq}, {7, 99}} {
			if _, err := b.log.Private(tx, c.org, c.seq); !errors.Is(err, audit.ErrNoPrivate) {
				t.Errorf("organisation %d, entry %d: %v, want ErrNoPrivate", c.org, c.seq, err)
			}
		}
		return nil
	})
	wrong := accepted(2)
	wrong.Private = seal(8, "invented")
	err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
		_, err := b.log.Append(tx, wrong)
		return err
	})
	if err == nil {
		t.Error("an entry took a part that was sealed for another organisation")
	}
	// Retention takes the part; the entry and every proof stay.
	err = b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
		_, err := tx.Exec("DELETE FROM audit_detail WHERE seq = $1", seq)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := b.mustVerify(2); v.Private != 0 {
		t.Errorf("%d sealed parts, want none", v.Private)
	}
}

func testRefused(t *testing.T, address string) {
	b := openBook(t, address)
	b.fill(1)
	long := strings.Repeat("ü", 256)
	for name, spoil := range map[string]func(*audit.Entry){
		"no event":            func(e *audit.Entry) { e.Event = "" },
		"no action":           func(e *audit.Entry) { e.Action = "" },
		"no result":           func(e *audit.Entry) { e.Result = "" },
		"too long a resource": func(e *audit.Entry) { e.ResourceID = long },
		"too long a purpose":  func(e *audit.Entry) { e.Purpose = "123456789012345678901" },
		"NUL in a name":       func(e *audit.Entry) { e.Program = "a\x00b" },
		"no UTF-8 in a name":  func(e *audit.Entry) { e.OSUser = "\xff" },
		"a detail given twice": func(e *audit.Entry) {
			e.Details = []audit.Detail{audit.Int("a", 1), audit.Int("b", 1), audit.Int("a", 2)}
		},
		"a detail without a name":  func(e *audit.Entry) { e.Details = []audit.Detail{audit.Int("", 1)} },
		"a detail made of nothing": func(e *audit.Entry) { e.Details = make([]audit.Detail, 1) },
		"too many details":         func(e *audit.Entry) { e.Details = make([]audit.Detail, 65) },
	} {
		e := accepted(2)
		spoil(&e)
		err := b.db.Commit(t.Context(), 1, func(tx *db.Tx) error {
			_, err := b.log.Append(tx, e)
			return err
		})
		if err == nil {
			t.Errorf("%s: it was taken", name)
		} else if strings.Contains(err.Error(), long) {
			t.Errorf("%s: the error repeats the value", name)
		}
	}
	fits := accepted(3)
	fits.ResourceID = long[:255*2] // 255 characters, 510 bytes
	b.append(fits)
	b.mustVerify(2)
}

func testStrangeBytes(t *testing.T, address string) {
	b := openBook(t, address)
	e := accepted(1)
	e.Agent = strings.Repeat("x", 511) + "ü\x00\xff"
	e.Details = []audit.Detail{audit.Text("control id", "a\x00b\xffc"), audit.Text("long", strings.Repeat("漢", 1000)), audit.Text("bad", strings.Repeat("\xff", 1000))}
	b.append(e)
	b.mustVerify(1)
	got := b.search(audit.Query{AllOrgs: true}).Records[0]
	if got.Agent != strings.Repeat("x", 511) {
		t.Errorf("the agent became %q", got.Agent)
	}
	if v := got.Details[1].Value(); v != "a\uFFFDb\uFFFDc" {
		t.Errorf("the control id became %q", v)
	}
	if v := got.Details[2].Value(); v != strings.Repeat("漢", 341) {
		t.Errorf("the long text became %d bytes", len(v.(string)))
	}
}

func contains(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(s string) bool { return strings.Contains(s, part) })
}
