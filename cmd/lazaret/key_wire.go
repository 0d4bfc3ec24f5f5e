package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/db"
	"github.com/lazaret-health/lazaret/internal/kms"
	"github.com/lazaret-health/lazaret/internal/seal"
)

// openKeys opens the ring. The first start makes the root key, where that is in our hands; a later one refuses to, for what is
// sealed would be lost behind a key that is not its own.
func (p *program) openKeys(ctx context.Context, s *service) error {
	s.host = protect()
	for what, how := range s.host {
		s.log.Info("memory", what, how)
	}
	keys := &s.cfg.Keys
	if err := p.makeRoot(ctx, s); err != nil {
		return err
	}
	store, err := seal.DirStore(string(keys.Store))
	if err != nil {
		return err
	}
	root, former, err := p.openRoot(ctx, s.cfg, keys.Root)
	if err != nil {
		return err
	}
	c := seal.Config{Root: root, Store: store, Now: p.now, Rand: p.rand, Grace: keys.Grace}
	if former != nil {
		c.Former = append(c.Former, former)
	}
	for _, r := range keys.Former {
		one, _, err := p.openRoot(ctx, s.cfg, r)
		if err != nil {
			return fmt.Errorf("keys.former: %w", err)
		}
		if one.ID() != root.ID() {
			c.Former = append(c.Former, one)
		}
	}
	s.root = root
	s.ring, err = seal.Open(ctx, c)
	if errors.Is(err, seal.ErrRoot) {
		return hint(err, "nothing is taken without it; see that the root key can be reached, then start again")
	}
	return err
}

// makeRoot makes a root key on the very first start.
func (p *program) makeRoot(ctx context.Context, s *service) error {
	keys := &s.cfg.Keys
	path := keys.Root.File()
	if keys.Root.Kind == "passphrase" {
		path = seal.PassphraseFile(string(keys.Store))
	}
	if path == "" {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	used, err := s.inUse(ctx)
	if err != nil {
		return err
	}
	if used {
		return hint(fmt.Errorf("the root key %s is gone, and the database holds what it sealed", path),
			"bring the key back from where its copy is kept; a new one cannot open anything")
	}
	if keys.Root.Kind == "passphrase" {
		passphrase, err := p.passphrase(keys.Root, "new passphrase for the root key")
		if err != nil {
			return err
		}
		if err := seal.CreatePassphraseRoot(path, passphrase); err != nil {
			return err
		}
	} else if err := seal.CreateFileRoot(path); err != nil {
		return fmt.Errorf("make the root key: %w", err)
	}
	s.newRoot = path
	return nil
}

// openRoot opens a root key. former is what a change of a file that was broken off has left.
func (p *program) openRoot(ctx context.Context, c *config.Config, r config.Root) (root, former seal.Root, err error) {
	switch r.Kind {
	case "file":
		return seal.FileRoots(r.Name)
	case "credential":
		root, err = seal.CredentialRoot(p.env("CREDENTIALS_DIRECTORY"), r.Name)
	case "passphrase":
		var passphrase string
		if passphrase, err = p.passphrase(r, "passphrase of the root key"); err == nil {
			root, err = seal.PassphraseRoot(seal.PassphraseFile(string(c.Keys.Store)), passphrase)
		}
	case "openbao", "vault":
		t := c.Keys.Transit
		if t == nil {
			return nil, nil, errors.New("keys.transit does not say where the transit engine is")
		}
		k := kms.TransitConfig{
			Address: string(t.Address), Namespace: string(t.Namespace), Mount: string(t.Mount), Key: r.Name,
			RoleID: string(t.Role), AuthMount: string(t.AuthMount), Timeout: t.Timeout, Now: p.now,
		}
		if t.CA != "" {
			if k.CA, err = os.ReadFile(string(t.CA)); err != nil {
				return nil, nil, fmt.Errorf("keys.transit.ca: %w", err)
			}
		}
		if !t.Token.IsZero() {
			k.Token = t.Token.Resolve
		} else {
			k.SecretID = t.Secret.Resolve
		}
		root, err = noNil(kms.NewTransit(k))
	case "awskms":
		root, err = noNil(kms.NewAWS(ctx, kms.AWSConfig{ARN: r.Name, Endpoint: string(c.Keys.AWS.Endpoint)}))
	default:
		err = errors.New("keys.root is not given")
	}
	return root, nil, err
}

// noNil keeps a nil pointer from becoming a root that is not nil.
func noNil[R seal.Root](r R, err error) (seal.Root, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// passphrase resolves the reference, or asks at the terminal.
func (p *program) passphrase(r config.Root, what string) (string, error) {
	if !r.Passphrase.IsZero() {
		return r.Passphrase.Resolve()
	}
	return p.askSecret(what)
}

// openKeeper makes the keeper of the keys over what the service has open.
func (p *program) openKeeper(s *service) (err error) {
	s.keys, err = seal.NewKeeper(seal.KeeperConfig{
		Ring: s.ring, Root: s.root, Dir: string(s.cfg.Keys.Store), File: s.cfg.Keys.Root.File(),
		Record: keyRecord{s}, Reseal: s.engine.Resealer(), Now: p.now, Log: s.log,
	})
	s.metrics.NewGauge("lazaret_root_key_reachable", func() float64 {
		if s.ring.RootState().Away.IsZero() {
			return 1
		}
		return 0
	})
	s.metrics.NewGauge("lazaret_root_key_shut", func() float64 {
		if s.ring.RootState().Shut {
			return 1
		}
		return 0
	})
	return err
}

// keyRecord puts acts on keys into the audit log.
type keyRecord struct{ s *service }

func keyEvent(what string) (audit.Event, audit.Action) {
	switch what {
	case seal.ActMade:
		return audit.KeyCreated, audit.Create
	case seal.ActRotated:
		return audit.RootKeyChanged, audit.Update
	case seal.ActRenewed:
		return audit.KeysRenewed, audit.Update
	case seal.ActResealed:
		return audit.RecordsResealed, audit.Update
	case seal.ActShredding:
		return audit.KeysShredding, audit.Delete
	case seal.ActShredded:
		return audit.KeysShredded, audit.Delete
	case seal.ActCopied:
		return audit.RecoveryCopied, audit.Read
	case seal.ActConfirmed:
		return audit.RecoveryConfirmed, audit.Execute
	case seal.ActAway:
		return audit.RootKeyAway, audit.Execute
	case seal.ActBack:
		return audit.RootKeyBack, audit.Execute
	}
	return audit.RootKeyChecked, audit.Execute
}

// keysAnEntry bounds the keys that one entry names: more of them make more entries.
const keysAnEntry = 20

func (r keyRecord) RecordKeyAct(ctx context.Context, who seal.Actor, a seal.Act) error {
	e := audit.Entry{Org: a.Org, Result: audit.Success, Program: who.Program, OSUser: who.OSUser, ResourceType: "key", ResourceID: a.Root}
	e.Event, e.Action = keyEvent(a.What)
	if a.Failed {
		e.Result = audit.SeriousFailure
	}
	var entries []audit.Entry
	for first := 0; first == 0 || first < len(a.Keys); first += keysAnEntry {
		one := e
		one.Details = []audit.Detail{audit.Int("count", a.Count)}
		if a.Purpose != 0 {
			one.Details = append(one.Details, audit.Text("key_purpose", a.Purpose.String()), audit.Text("period", a.Period.String()))
		}
		if a.Note != "" {
			one.Details = append(one.Details, audit.Text("how", a.Note))
		}
		for i, id := range a.Keys[first:min(first+keysAnEntry, len(a.Keys))] {
			one.Details = append(one.Details, audit.Text(fmt.Sprintf("key_%02d", i+1), id.String()))
		}
		entries = append(entries, one)
	}
	return r.s.db.Commit(ctx, 512*len(entries), func(tx *db.Tx) error {
		for _, one := range entries {
			if _, err := r.s.audit.Append(tx, one); err != nil {
				return err
			}
		}
		return nil
	})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
