package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/internal/audit"
	"github.com/lazaret-health/lazaret/internal/engine"
)

// TestAdmission sends one message to a channel with one rule, and looks at the answer, at what is kept and why, and at what is
// delivered.
func TestAdmission(t *testing.T) {
	const ok, rejected = "accepted", "rejected"
	types := func(list ...string) func(*engine.Channel) {
		return func(c *engine.Channel) { c.Admit.Types = list }
	}
	answering := func(u engine.Unacceptable, list ...string) func(*engine.Channel) {
		return func(c *engine.Channel) { c.Admit.Types, c.Unacceptable = list, u }
	}
	a01 := message("ADT^A01^ADT_A01", "C1", "P", "2.5.1", "PID|1||P1")
	cases := []struct {
		name   string
		rule   func(*engine.Channel)
		in     string
		answer string // MSA-1; "" for a closed connection
		err    string // code of table 0357
		where  string // ERR-2, or ERR-1 before 2.5
		status string
		reason string // part of it
	}{
		{"no rule takes everything", func(*engine.Channel) {}, a01, "AA", "", "", ok, ""},
		{"a type that is listed is taken with all its events", types("ADT"), a01, "AA", "", "", ok, ""},
		{"a type and event that are listed are taken", types("ORU^R01", "ADT^A01"), a01, "AA", "", "", ok, ""},
		{"a pattern for any event matches", types("ADT^*"), a01, "AA", "", "", ok, ""},
		{"a pattern for any type matches", types("*^A01"), a01, "AA", "", "", ok, ""},
		{"a structure that is listed is taken", types("ADT^A01^ADT_A01"), a01, "AA", "", "", ok, ""},
		{"another structure is refused with AR 201 at MSH-9", types("ADT^A01^ADT_A02"), a01, "AR", "201", "MSH^1^9", rejected, "takes ADT^A01^ADT_A02"},
		{"another type is refused with AR 200 at MSH-9", types("ORU"), a01, "AR", "200", "MSH^1^9", rejected, "takes ORU"},
		{"another event of the type is refused with AR 201 at MSH-9", types("ADT^A08"), a01, "AR", "201", "MSH^1^9", rejected, "takes ADT^A08"},
		{"a type in lower case is another type", types("ADT"), message("adt^a01", "C1", "P", "2.5.1"), "AR", "200", "MSH^1^9", rejected, "takes ADT"},
		{"a message without a type is refused where types are listed", types("ADT"), message("", "C1", "P", "2.5.1"), "AR", "200", "MSH^1^9", rejected, "takes ADT"},
		{"in version 2.3 the place stands in ERR-1", types("ORU"), message("ADT^A01", "C1", "P", "2.3"), "AR", "200", "MSH^1^9^200", rejected, ""},
		{
			"a version that is listed is taken", func(c *engine.Channel) { c.Admit.Versions = []string{"2.3", "2.5.1"} },
			a01, "AA", "", "", ok, "",
		},
		{
			"another version is refused with AR 203 at MSH-12", func(c *engine.Channel) { c.Admit.Versions = []string{"2.3", "2.4"} },
			a01, "AR", "203", "MSH^1^12", rejected, "takes version 2.3, 2.4",
		},
		{
			"another processing ID is refused with AR 202 at MSH-11", func(c *engine.Channel) { c.Admit.ProcessingIDs = []string{"P"} },
			message("ADT^A01", "C1", "T", "2.5.1"), "AR", "202", "MSH^1^11", rejected, "takes processing ID P",
		},
		{
			"what is longer than the channel takes is refused with AE", func(c *engine.Channel) { c.Admit.MaxSize = 60 },
			a01, "AE", "207", "", rejected, "longer than 60 bytes",
		},
		{"what has no MSH is refused with AE 100", func(*engine.Channel) {}, "PID|1||P1\r", "AE", "100", "", rejected, "not legible"},
		{"separators that cannot separate are refused with AE 100", func(*engine.Channel) {}, "MSHAAAAAA\r", "AE", "100", "", rejected, "not legible"},
		{"an empty block is refused with AE 100", func(*engine.Channel) {}, "", "AE", "100", "", rejected, "not legible"},
		{"bytes that no database keeps as text are kept all the same", func(*engine.Channel) {}, "\x00\xff\xfe not HL7", "AE", "100", "", rejected, "not legible"},
		{"a source set to AR says AR to what is not legible too", answering(engine.AnswerAR), "PID|1||P1\r", "AR", "100", "", rejected, "not legible"},
		{"a source set to AA says AA, keeps it and delivers nothing", answering(engine.AnswerAA, "ORU"), a01, "AA", "", "", rejected, "takes ORU"},
		{"a source set to close closes, and keeps it", answering(engine.AnswerClose, "ORU"), a01, "", "", "", rejected, "takes ORU"},
	}
	each(t, func(t *testing.T, address, keys string) {
		doors, wards, channels := make([]*door, len(cases)), make([]*ward, len(cases)), []engine.Channel{}
		for i, tc := range cases {
			doors[i], wards[i] = newDoor(), newWard()
			c := channel(doors[i], tc.rule, destination("lab", wards[i]))[0]
			c.Name = fmt.Sprintf("case-%d", i+1)
			channels = append(channels, c)
		}
		h := start(t, address, keys, channels)
		for i, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				answer, err := doors[i].send(tc.in)
				if tc.answer == "" {
					if err == nil || answer != "" {
						t.Fatalf("answered %q, %v; want a closed connection", answer, err)
					}
				} else {
					a := mustAnswer(t, answer, err, tc.answer)
					if a.ErrorCode != tc.err {
						t.Errorf("error code %q, want %q", a.ErrorCode, tc.err)
					}
					if !strings.Contains(answer, tc.where) {
						t.Errorf("answer %q does not say where: %s", answer, tc.where)
					}
				}
				name := channels[i].Name
				list := h.list(engine.Query{Channel: name})
				if len(list) != 1 || list[0].Status != tc.status || !strings.Contains(list[0].Reason, tc.reason) || list[0].Size != len(tc.in) {
					t.Fatalf("listed as %+v, want one that is %s because it %q", list, tc.status, tc.reason)
				}
				if by := h.list(engine.Query{Channel: name, Status: tc.status}); len(by) != 1 || by[0].ID != list[0].ID {
					t.Errorf("by its status listed as %+v", by)
				}
				detail, err := h.engine.Show(context.Background(), clerk(), list[0].ID)
				if err != nil || string(detail.Content) != tc.in {
					t.Errorf("shown as %q, %v; want the bytes that came", detail.Content, err)
				}
				if got := h.metric(`lazaret_messages_total{channel="` + name + `",result="` + tc.status + `"}`); got != 1 {
					t.Errorf("counted %d as %s, want 1", got, tc.status)
				}
			})
		}
		h.settled(t)
		for i, tc := range cases {
			want := 0
			if tc.status == ok {
				want = 1
			}
			if got := len(wards[i].got()); got != want {
				t.Errorf("%s: the receiver got %d messages, want %d", tc.name, got, want)
			}
		}
		h.verify()
	})
}

// TestEnhancedMode is the matrix of MSH-15 (HL7 v2.5.1 section 2.9.3, table 0155) with every fate of a message.
func TestEnhancedMode(t *testing.T) {
	d, w := newDoor(), newWard()
	start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, func(c *engine.Channel) { c.Admit.Types = []string{"ADT^A01", "ADT^A08"}; c.Admit.MaxSize = 200 },
		destination("lab", w)))
	for _, tc := range []struct {
		accept, application string
		taken, type_, error string // the answer when it is accepted, of another type, too long
	}{
		{"", "", "AA", "AR", "AE"},
		{"AL", "", "CA", "CR", "CE"},
		{"AL", "NE", "CA", "CR", "CE"},
		{"AL", "AL", "CA", "CR", "CE"},
		{"", "AL", "CA", "CR", "CE"},
		{"NE", "", "", "", ""},
		{"NE", "AL", "", "", ""},
		{"ER", "", "", "CR", "CE"},
		{"SU", "", "CA", "", ""},
		{"XX", "", "CA", "CR", "CE"},
	} {
		t.Run("MSH-15 "+tc.accept+" MSH-16 "+tc.application, func(t *testing.T) {
			head := func(typ, more string) string {
				return message(typ, "C1", "P", "2.5.1|||"+tc.accept+"|"+tc.application, more)
			}
			for what, in := range map[string]struct{ block, want string }{
				"accepted": {head("ADT^A01", "PID|1||P1"), tc.taken},
				"wrong":    {head("ORU^R01", "PID|1||P1"), tc.type_},
				"too long": {head("ADT^A01", "NTE|1||"+strings.Repeat("x", 200)), tc.error},
			} {
				answer, err := d.send(in.block)
				if in.want == "" {
					if answer != "" || err != nil {
						t.Errorf("%s: answered %q, %v; want silence", what, answer, err)
					}
					continue
				}
				a := mustAnswer(t, answer, err, in.want)
				if a.ControlID != "C1" {
					t.Errorf("%s: MSA-2 is %q", what, a.ControlID)
				}
			}
		})
	}
}

// TestRejectedMessagesComeBack: what was refused is found, and goes its way once the channel's rules have changed.
func TestRejectedMessagesComeBack(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		d, w := newDoor(), newWard()
		only := func(typ string) func(*engine.Channel) {
			return func(c *engine.Channel) { c.Admit.Types, c.Settings = []string{typ}, []byte(typ) }
		}
		h := start(t, address, keys, channel(d, only("ORU"), destination("lab", w), destination("archive", newWard())))
		in := adt("C1", "P1")
		answer, err := d.send(in)
		mustAnswer(t, answer, err, "AR")
		d.send("garbage")
		m := h.find("C1")
		if _, err := h.engine.Resend(ctx, clerk(), m.ID, nil); !isConflict(err) {
			t.Fatalf("resent against the rules: %v", err)
		}
		h.stop()

		h = start(t, address, keys, channel(d, only("ADT"), destination("lab", w), destination("archive", newWard())))
		made, err := h.engine.Resend(ctx, clerk(), m.ID, []string{"lab"})
		if err != nil || len(made) != 1 || made[0].Destination != "lab" {
			t.Fatalf("resent as %+v, %v", made, err)
		}
		if got := w.wait(t, 1); got[0] != in {
			t.Errorf("the receiver got %q", got[0])
		}
		h.settled(t)
		m = h.find("C1")
		if m.Status != "accepted" || m.Reason != "" || len(m.Deliveries) != 1 || m.Deliveries[0].State != "sent" || m.Deliveries[0].Revision != 2 {
			t.Errorf("afterwards listed as %+v", m)
		}
		if got := h.events(m.ID); got != "message-rejected message-resent delivery-sent" {
			t.Errorf("on record: %s", got)
		}
		// Garbage stays garbage, whatever the rules.
		g := h.list(engine.Query{Status: "rejected"})
		if len(g) != 1 {
			t.Fatalf("%d are still rejected, want the garbage alone", len(g))
		}
		if _, err := h.engine.Resend(ctx, clerk(), g[0].ID, nil); !isConflict(err) {
			t.Errorf("garbage was resent: %v", err)
		}
		h.verify()
	})
}

// TestQuotaOfRejectedMessages: a stranger cannot fill the disk, and what is no longer kept is counted and on record.
func TestQuotaOfRejectedMessages(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		c := clockAt(time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC))
		d := newDoor()
		h := startWith(t, address, keys, channel(d, func(c *engine.Channel) { c.Admit.RejectedQuota = 4000 }, destination("lab", newWard())), c.everywhere)
		garbage := strings.Repeat("x", 1000)
		flood := func(p engine.Peer) {
			for range 5 {
				answer, err := d.sendAs(p, garbage)
				mustAnswer(t, answer, err, "AE")
			}
		}
		flood(named("stranger"))
		if got := len(h.list(engine.Query{Status: "rejected"})); got != 2 {
			t.Errorf("%d messages of 1,000 bytes are kept with a quota of 4,000, want 2", got)
		}
		if got := h.metric("lazaret_rejected_not_kept_total"); got != 3 {
			t.Errorf("counted %d as not kept, want 3", got)
		}
		over := func() (n int) {
			for _, r := range h.recorded(audit.MessageRejected) {
				if r.ResourceType == "channel" {
					n++
				}
			}
			return n
		}
		if got := over(); got != 1 {
			t.Errorf("%d entries say that the quota is used up, want 1", got)
		}
		flood(named("other"))
		if got := len(h.list(engine.Query{Status: "rejected"})); got != 4 {
			t.Errorf("another peer has no quota of its own: %d kept, want 4", got)
		}
		c.advance(24 * time.Hour)
		flood(named("stranger"))
		if got := len(h.list(engine.Query{Status: "rejected"})); got != 6 {
			t.Errorf("the next day has no quota of its own: %d kept, want 6", got)
		}
		h.stop()
		h = startWith(t, address, keys, channel(d, func(c *engine.Channel) { c.Admit.RejectedQuota = 4000 }, destination("lab", newWard())), c.everywhere)
		flood(named("stranger"))
		if got := len(h.list(engine.Query{Status: "rejected"})); got != 6 {
			t.Errorf("a restart forgot the quota: %d kept, want 6", got)
		}
		h.verify()
	})
}

// TestTooFastPeersWait: a peer beyond its rate waits, and is refused without being kept where seconds would not be enough.
func TestTooFastPeersWait(t *testing.T) {
	d := newDoor()
	h := start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, func(c *engine.Channel) {
		c.Admit.Rate = &engine.Rate{Messages: 10, Per: time.Second, Burst: 1}
	}, destination("lab", newWard())))
	began := time.Now()
	d.mustSend(t, adt("C1", "P1"), adt("C2", "P1"), adt("C3", "P1"), adt("C4", "P1"))
	if took := time.Since(began); took < 290*time.Millisecond {
		t.Errorf("four messages at 10 a second took %v", took)
	}
	other := time.Now()
	if answer, err := d.sendAs(named("other"), adt("C5", "P1")); err != nil || !strings.Contains(answer, "MSA|AA|") || time.Since(other) > 90*time.Millisecond {
		t.Errorf("another peer waited %v, %q, %v", time.Since(other), answer, err)
	}
	h.stop()

	d = newDoor()
	h = start(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, func(c *engine.Channel) {
		c.Admit.Rate = &engine.Rate{Messages: 1, Per: time.Hour, Burst: 1}
		c.Unacceptable = engine.AnswerAA
	}, destination("lab", newWard())))
	d.mustSend(t, adt("C1", "P1"))
	for in, want := range map[string]string{
		adt("C2", "P1"): "AR", message("ADT^A01", "C3", "P", "2.5.1|||AL"): "CE", "garbage": "AR",
	} {
		answer, err := d.send(in)
		a := mustAnswer(t, answer, err, want)
		if a.ErrorCode != "207" || !strings.Contains(a.Text+answer, "send again later") {
			t.Errorf("refused with %q", answer)
		}
	}
	if got := len(h.list(engine.Query{})); got != 1 {
		t.Errorf("%d are kept, want the first alone", got)
	}
	if got := h.metric(`lazaret_rejected_total{channel="adt",reason="rate"}`); got != 3 {
		t.Errorf("counted %d, want 3", got)
	}
}

// TestTooLongToRead: the beginning is kept, answered and shown, and never goes anywhere.
func TestTooLongToRead(t *testing.T) {
	each(t, func(t *testing.T, address, keys string) {
		ctx := context.Background()
		d, w := newDoor(), newWard()
		h := start(t, address, keys, channel(d, nil, destination("lab", w)))
		prefix := adt("LONG", "P1") + "OBX|1|ED|PDF||^^^Base64^JVBERi0x"
		answer := d.inside().TooLong(ctx, peer, []byte(prefix))
		a := mustAnswer(t, string(answer), nil, "AE")
		if a.ControlID != "LONG" || a.ErrorCode != "207" {
			t.Errorf("answered %+v", a)
		}
		m := h.find("LONG")
		if m.Status != "rejected" || len(m.Notes) != 1 || !strings.Contains(m.Reason, "longer than") {
			t.Errorf("listed as %+v", m)
		}
		if _, err := h.engine.Resend(ctx, clerk(), m.ID, nil); !isConflict(err) {
			t.Errorf("half a message was resent: %v", err)
		}
		h.settled(t)
		if got := w.got(); len(got) != 0 {
			t.Errorf("half a message was delivered: %q", got)
		}
		if answer := d.inside().TooLong(ctx, peer, []byte("no header")); hl7MSA(answer) != "AE" {
			t.Errorf("answered %q to a beginning that is not legible", answer)
		}
	})
}

func hl7MSA(answer []byte) string {
	a, err := hl7.ParseAck(answer)
	if err != nil {
		return err.Error()
	}
	return string(a.Code)
}

// TestRefusedConnections: each is counted, and at most one a minute and peer is on record.
func TestRefusedConnections(t *testing.T) {
	c := clockAt(time.Now())
	d := newDoor()
	h := startWith(t, "sqlite:"+t.TempDir()+"/l.db", t.TempDir(), channel(d, nil, destination("lab", newWard())), c.everywhere)
	refuse := func(peers ...string) {
		for _, p := range peers {
			d.inside().Refused(named(p), "address not allowed")
		}
	}
	refuse("a", "a", "a", "b")
	c.advance(2 * time.Minute)
	refuse("a", "a")
	if got := len(h.recorded(audit.ConnectionRefused)); got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
	if got := h.metric("lazaret_connections_refused_total"); got != 6 {
		t.Errorf("counted %d, want 6", got)
	}
	h.verify()
}
