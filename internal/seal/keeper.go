package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// An Actor is who acts on keys.
type Actor struct{ OSUser, Program string }

// What is done to keys.
const (
	ActMade      = "made"              // data keys, by sealing in a new slot
	ActRotated   = "root-changed"      // all data keys under another root key, or its newest version
	ActRenewed   = "renewed"           // data keys retired: fresh ones seal
	ActResealed  = "sealed-anew"       // old records under fresh keys
	ActShredding = "shredding"         // keys are about to be destroyed
	ActShredded  = "shredded"          // keys were destroyed: the certificate
	ActCopied    = "recovery-made"     // a recovery copy was handed out
	ActConfirmed = "recovery-tried"    // a recovery copy gave the root key
	ActAway      = "root-away"         // the root key is out of reach
	ActBack      = "root-back"         // and is there again
	ActChecked   = "root-key-answered" // somebody asked it to wrap and unwrap
)

// An Act is one of them, for the record. It holds no key.
type Act struct {
	What    string
	Org     uint32
	Purpose Purpose // of shredding
	Period  Period
	Keys    []KeyID
	Count   int64  // of keys or records
	Root    string // Root.ID
	Note    string
	Failed  bool
}

// A Recorder puts acts on record. When it fails, a person's act is not carried out.
type Recorder interface {
	RecordKeyAct(ctx context.Context, who Actor, a Act) error
}

// A Resealer seals old records anew, in batches, and knows after a restart where it was.
type Resealer interface {
	// Reseal walks through all records from the beginning, or with resume from where it was broken off. Every record can be read
	// at every moment.
	Reseal(ctx context.Context, resume bool, progress func(done, total int64)) (changed int64, err error)
	// Unfinished says whether a walk was broken off.
	Unfinished(ctx context.Context) (bool, error)
}

// ErrBusy means that another long work on keys is under way.
var ErrBusy = errors.New("another work on keys is under way")

// KeeperConfig is what a Keeper needs. File is "" where the root key is in no file; all else is required.
type KeeperConfig struct {
	Ring   *Ring
	Root   Root   // the ring's, as it was opened
	Dir    string // of the key store
	File   string // of the root key
	Record Recorder
	Reseal Resealer
	Now    func() time.Time
	Log    *slog.Logger
	Probe  time.Duration // how often the root key is asked whether it is there; default a minute
}

// A Keeper does to keys what takes a person's decision, or a while: rotation, renewal, shredding, recovery copies. It watches the
// root key and puts everything on record.
type Keeper struct {
	c    KeeperConfig
	jobs chan job

	mu   sync.Mutex
	root Root // guarded by mu
	work Work // guarded by mu
}

// A Work is a long work, under way or the last one.
type Work struct {
	What  string    `json:"what,omitempty"`
	Done  int64     `json:"done"`
	Total int64     `json:"total"`
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	Error string    `json:"error,omitempty"`
}

// Busy says that it is under way.
func (w Work) Busy() bool { return !w.Began.IsZero() && w.Ended.IsZero() }

type job struct {
	who    Actor
	what   string
	resume bool
}

// NewKeeper makes a keeper. It does nothing before Run.
func NewKeeper(c KeeperConfig) (*Keeper, error) {
	if c.Ring == nil || c.Root == nil || c.Dir == "" || c.Record == nil || c.Reseal == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("keep keys: Config needs Ring, Root, Dir, Record, Reseal, Now and Log")
	}
	if c.Probe <= 0 {
		c.Probe = time.Minute
	}
	return &Keeper{c: c, root: c.Root, jobs: make(chan job, 1)}, nil
}

// Run watches the root key, lets go of what others have destroyed, does the long works, and finishes those that a crash has broken
// off. It returns nil when ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	self := Actor{Program: "lazaret serve"}
	if len(k.c.Ring.roots.Load().former) > 0 {
		k.start(job{self, ActRotated, true})
	}
	if left, err := k.c.Reseal.Unfinished(ctx); err != nil {
		k.c.Log.Warn("keys: cannot tell whether a sealing anew was broken off", "error", err)
	} else if left && k.start(job{self, ActResealed, true}) != nil {
		k.c.Log.Info("keys: a sealing anew that was broken off goes on at the next start or by key rotate data --reseal")
	}
	tick := time.NewTicker(k.c.Probe)
	defer tick.Stop()
	// What was made goes on record soon; it cannot within the seal itself, which may stand inside a transaction.
	flush := time.NewTicker(time.Second)
	defer flush.Stop()
	defer func() { k.flush(context.WithoutCancel(ctx), self) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-flush.C:
			k.flush(ctx, self)
		case <-tick.C:
			k.watch(ctx, self)
		case j := <-k.jobs:
			k.do(ctx, j)
		}
	}
}

// flush puts on record which data keys were made.
func (k *Keeper) flush(ctx context.Context, who Actor) {
	byOrg := map[uint32][]KeyID{}
	for _, id := range k.c.Ring.TakeMade() {
		byOrg[id.Org()] = append(byOrg[id.Org()], id)
	}
	for org, ids := range byOrg {
		if err := k.c.Record.RecordKeyAct(ctx, who, Act{What: ActMade, Org: org, Keys: ids, Count: int64(len(ids))}); err != nil {
			k.c.Log.Error("keys: that data keys were made is not on record", "keys", ids, "error", err)
		}
	}
}

func (k *Keeper) watch(ctx context.Context, who Actor) {
	before := k.c.Ring.RootState()
	limit, cancel := context.WithTimeout(ctx, k.c.Probe)
	err := k.c.Ring.Probe(limit)
	cancel()
	now := k.c.Ring.RootState()
	switch {
	case err != nil && before.Away.IsZero():
		k.c.Log.Error("keys: the root key is out of reach; the service goes on with the keys in memory for a while", "root", now.ID, "error", err)
		k.note(ctx, who, Act{What: ActAway, Root: now.ID, Failed: true})
	case err != nil && now.Shut && !before.Shut:
		k.c.Log.Error("keys: the root key has been out of reach for too long: nothing is sealed or opened until it is back", "root", now.ID, "since", now.Away)
	case err == nil && !before.Away.IsZero():
		k.c.Log.Info("keys: the root key is back", "root", now.ID)
		k.note(ctx, who, Act{What: ActBack, Root: now.ID})
	}
	if err := k.c.Ring.Refresh(ctx); err != nil && ctx.Err() == nil {
		k.c.Log.Error("keys: cannot look for keys that others have destroyed", "error", err)
	}
}

// note records what happened by itself.
func (k *Keeper) note(ctx context.Context, who Actor, a Act) {
	if err := k.c.Record.RecordKeyAct(ctx, who, a); err != nil {
		k.c.Log.Error("keys: not on record", "act", a.What, "error", err)
	}
}

// start queues a work, if none is under way.
func (k *Keeper) start(j job) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.work.Busy() {
		return fmt.Errorf("%w: %s", ErrBusy, k.work.What)
	}
	k.work = Work{What: j.what, Began: k.c.Now()}
	k.jobs <- j // has room: one work at a time
	return nil
}

func (k *Keeper) progress(done, total int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.work.Done, k.work.Total = done, total
}

// Work tells of the long work under way, or of the last one.
func (k *Keeper) Work() Work {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.work
}

func (k *Keeper) do(ctx context.Context, j job) {
	var a Act
	var err error
	switch j.what {
	case ActRotated:
		a, err = k.rotate(ctx, j)
	case ActResealed:
		a.Count, err = k.c.Reseal.Reseal(ctx, j.resume, k.progress)
	}
	a.What = j.what
	if err != nil {
		a.Failed = true
		k.c.Log.Error("keys: a work failed", "work", j.what, "error", err)
	} else {
		k.c.Log.Info("keys: done", "work", j.what, "count", a.Count)
	}
	if ctx.Err() == nil {
		k.note(ctx, j.who, a)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.work.Ended = k.c.Now()
	if err != nil {
		k.work.Error = err.Error()
	}
}

// rotate puts all data keys under a new root key (from a file), or under the newest version of the present one (elsewhere). A root
// that the configuration has changed takes over what the former one holds.
func (k *Keeper) rotate(ctx context.Context, j job) (a Act, err error) {
	former := len(k.c.Ring.roots.Load().former) > 0
	if k.c.File != "" && !former && !j.resume {
		next, err := NextFileRoot(k.c.File)
		if err != nil {
			return a, err
		}
		if err := k.c.Ring.ChangeRoot(ctx, next); err != nil {
			return a, err
		}
		k.mu.Lock()
		k.root = next
		k.mu.Unlock()
	}
	a.Root = k.c.Ring.RootState().ID
	n, err := k.c.Ring.Rewrap(ctx, !former && k.c.File == "", func(done, total int) { k.progress(int64(done), int64(total)) })
	a.Count = int64(n)
	if err != nil {
		return a, err
	}
	if err := k.c.Ring.DropFormer(ctx); err != nil {
		return a, err
	}
	if k.c.File != "" {
		err = FinishFileRoot(k.c.File)
	}
	return a, err
}
