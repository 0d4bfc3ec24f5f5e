package retention

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/db"
)

// A Certificate shows that something was disposed of. It is an entry of the audit log, and as hard to forge.
type Certificate struct {
	Sequence     int64     `json:"sequence"` // its place in the audit log
	Entry        db.ID     `json:"entry"`
	Time         time.Time `json:"time"`
	Organisation string    `json:"organisation,omitempty"`
	Class        string    `json:"class"`             // content, metadata, audit-details
	Period       string    `json:"period"`            // the month, in UTC
	Channel      string    `json:"channel,omitempty"` // where only this channel's part went; "/rejected": what it refused
	Method       string    `json:"method"`
	Messages     int64     `json:"messages"`
	Bytes        int64     `json:"bytes"`
	Others       int64     `json:"others"` // rows that hang on them: sent bytes of attempts, or deliveries
	IndexRows    int64     `json:"index_rows"`
	Keys         []string  `json:"keys"` // ids of the destroyed data keys
	Policy       string    `json:"policy"`
	Holds        int64     `json:"holds_checked"`
	Begun        time.Time `json:"begun"`
	BegunBy      string    `json:"begun_by"`
	By           string    `json:"by"`
	Program      string    `json:"program"`
	Note         string    `json:"note,omitempty"`
	Damage       string    `json:"damage,omitempty"` // what of its row is not as the log wrote it
}

const (
	methodErase = "data keys destroyed (cryptographic erase, NIST SP 800-88 Rev. 1), then rows deleted"
	methodRows  = "rows deleted; the month's data keys stay until all of its content is past its time"
	methodMeta  = "rows deleted"
)

func (d *disposal) method() string {
	switch {
	case d.class == classMetadata:
		return methodMeta
	case d.scope != "":
		return methodRows
	}
	return methodErase
}

// keysAtOnce is how many ids of keys one detail holds: 32 digits and a space each, below 1 KiB.
const keysAtOnce = 30

// certify puts the certificate on record and ends the disposal, in one transaction.
func (k *Keeper) certify(ctx context.Context, who Actor, d *disposal) (seq int64, err error) {
	err = k.c.DB.Commit(ctx, 4096, func(tx *db.Tx) error {
		if err := k.keep(tx); err != nil {
			return err
		}
		if err := tx.QueryRow(showCounts, []any{int64(k.c.Organisation), d.class, int64(d.period), d.scope},
			&d.messages, &d.bytes, &d.others, &d.tokens); err != nil {
			return err
		}
		seq = -1
		if d.scope == "" || d.messages > 0 || d.others > 0 {
			details := append(d.details(), audit.Int("messages", d.messages), audit.Int("bytes", d.bytes), audit.Int("others", d.others),
				audit.Int("index_rows", d.tokens), audit.Text("method", d.method()), audit.Text("begun_by", d.by),
				audit.Text("begun", d.begunAt.Format(time.RFC3339Nano)))
			ids := strings.Fields(d.keys)
			for i := 0; len(ids) > 0 && i < 40; i++ {
				part := ids[:min(len(ids), keysAtOnce)]
				ids = ids[len(part):]
				details = append(details, audit.Text(fmt.Sprintf("keys_%02d", i+1), strings.Join(part, " ")))
			}
			var err error
			seq, err = k.c.Audit.Append(tx, who.entry(k.c.Organisation, audit.Entry{Event: audit.DisposalCertified, Action: audit.Delete,
				Result: audit.Success, ResourceType: "disposal", ResourceID: d.resource(), Details: details}))
			if err != nil {
				return err
			}
		}
		return one(tx.Exec(closeDisposal, tx.Now().UnixMicro(), seq, int64(k.c.Organisation), d.class, int64(d.period), d.scope))
	})
	if err != nil {
		return 0, fmt.Errorf("certify the disposal of %s: %w", d.resource(), err)
	}
	if seq >= 0 {
		k.note(func(p *Progress) { p.Certificates = append(p.Certificates, seq) })
	}
	return seq, nil
}

// details are what begin and certificate both say.
func (d *disposal) details() []audit.Detail {
	list := []audit.Detail{audit.Text("class", d.class), audit.Text("period", d.period.String()), audit.Text("policy", d.policy),
		audit.Int("holds_checked", d.holds)}
	if d.scope != "" {
		list = append(list, audit.Text("channel", d.scope))
	}
	if d.note != "" {
		list = append(list, audit.Text("note", d.note))
	}
	return list
}

// Certificates reads what the audit log has, oldest first.
func (k *Keeper) Certificates(ctx context.Context) ([]Certificate, error) {
	list := []Certificate{}
	err := k.c.DB.Read(ctx, func(tx *db.Tx) error {
		list = list[:0]
		q := audit.Query{Org: k.c.Organisation, ResourceType: "disposal", Event: audit.DisposalCertified, Limit: 1000}
		for {
			page, err := k.c.Audit.Search(tx, q)
			if err != nil {
				return err
			}
			for _, f := range page.Records {
				list = append(list, certificateOf(f))
			}
			if page.Next == 0 {
				return nil
			}
			q.Seq = page.Next
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}
	return list, nil
}

func certificateOf(f audit.Found) Certificate {
	c := Certificate{Sequence: f.Seq, Entry: f.ID, Time: f.Time, By: f.OSUser, Program: f.Program, Damage: f.Damage, Keys: []string{}}
	texts := map[string]*string{"class": &c.Class, "period": &c.Period, "channel": &c.Channel, "method": &c.Method, "policy": &c.Policy,
		"begun_by": &c.BegunBy, "note": &c.Note}
	numbers := map[string]*int64{"messages": &c.Messages, "bytes": &c.Bytes, "others": &c.Others, "index_rows": &c.IndexRows, "holds_checked": &c.Holds}
	for _, d := range f.Details {
		switch v := d.Value().(type) {
		case int64:
			if to := numbers[d.Key()]; to != nil {
				*to = v
			}
		case string:
			if to := texts[d.Key()]; to != nil {
				*to = v
			}
			if d.Key() == "begun" {
				c.Begun, _ = time.Parse(time.RFC3339Nano, v) // our own form; the zero time says that it is not
			}
			if strings.HasPrefix(d.Key(), "keys_") {
				c.Keys = append(c.Keys, strings.Fields(v)...)
			}
		}
	}
	return c
}
