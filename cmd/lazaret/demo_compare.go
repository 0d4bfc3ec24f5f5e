package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

const demoCompareHelp = `Compare the ledgers of a demo: did every message arrive once, in order, and with the right bytes?

Usage: lazaret demo-compare DIR

The hospital writes down what it sends and is answered, each receiver what it is given; none of them knows the others'
ledgers. "demo --once" ends with this. The exit code is 0 when nothing differs, else 1.

Example: lazaret demo-compare lazaret-demo
`

// maxShown bounds the differences that are shown; all are counted.
const maxShown = 20

// An expected message is one that a receiver must get.
type expected struct {
	id, sha256 string
	patients   []string
}

// A verdict is what the comparison of one receiver's ledger found.
type verdict struct {
	receiver    string
	expected    int
	arrived     int
	differences []string
}

func (p *program) demoCompare(_ context.Context, args []string) error {
	f := newFlags("demo-compare")
	rest, err := f.parse(args)
	if err == nil && len(rest) != 1 {
		err = usage("name the demo's directory", "demo-compare")
	}
	if err != nil {
		return err
	}
	same, err := p.compareLedgers(rest[0])
	if err == nil && !same {
		return errFound
	}
	return err
}

// compareLedgers compares and shows what was found.
func (p *program) compareLedgers(dir string) (same bool, err error) {
	sent, err := readLedger(dir, "hospital")
	if err != nil {
		return false, err
	}
	accepted, hospital := settle(sent)
	verdicts := []verdict{hospital}
	for _, r := range demoReceivers() {
		got, err := readLedger(dir, r.name)
		if err != nil {
			return false, err
		}
		verdicts = append(verdicts, r.compare(accepted, got))
	}
	same = true
	for _, v := range verdicts {
		switch {
		case len(v.differences) > 0:
			same = false
			p.printf("ledger of %s: %s\n", v.receiver, count(len(v.differences), "difference"))
			for i, d := range v.differences {
				if i == maxShown {
					p.printf("    and %d more\n", len(v.differences)-maxShown)
					break
				}
				p.printf("    %s\n", clean(d))
			}
		case v.receiver == "hospital":
			p.printf("ledger of hospital: %s of %s accepted, the others refused as they should be\n", thousands(int64(v.arrived)), thousands(int64(v.expected)))
		default:
			p.printf("ledger of %s: %s of %s, each once, in order, byte for byte\n", v.receiver, thousands(int64(v.arrived)), thousands(int64(v.expected)))
		}
	}
	if !same {
		p.say("the ledgers are in %s", filepath.Join(dir, "ledgers"))
	}
	return same, nil
}

// settle goes through the hospital's ledger: what was accepted, in the order in which it was sent on each feed, and what was
// answered otherwise than it should have been. An order belongs on neither feed, so it must be refused.
func settle(ledger []ledgerEntry) (accepted []ledgerEntry, v verdict) {
	v.receiver = "hospital"
	answers := map[string][]string{}
	for _, e := range ledger {
		if e.What != ledgerSent {
			answers[e.ID] = append(answers[e.ID], e.What)
		}
	}
	for _, e := range ledger {
		if e.What != ledgerSent {
			continue
		}
		v.expected++
		got := strings.Join(answers[e.ID], ", ")
		delete(answers, e.ID)
		isOrder := !strings.HasPrefix(e.Type, "ADT^") && !strings.HasPrefix(e.Type, "ORU^")
		switch {
		case got == ledgerAccepted && !isOrder:
			v.arrived++
			accepted = append(accepted, e)
		case got == ledgerRefused && isOrder:
		case got == "":
			v.differences = append(v.differences, fmt.Sprintf("%s %s was sent and got no answer", e.Type, e.ID))
		default:
			v.differences = append(v.differences, fmt.Sprintf("%s %s was answered: %s", e.Type, e.ID, got))
		}
	}
	for id := range answers {
		v.differences = append(v.differences, id+" was answered and never sent")
	}
	return accepted, v
}

// compare holds what a receiver got against what the hospital says was accepted.
func (r demoReceiver) compare(accepted, got []ledgerEntry) verdict {
	v := verdict{receiver: r.name, arrived: len(got)}
	place := map[string]int{} // of an expected message, by its control ID
	var want []expected
	for _, e := range accepted {
		if sum := r.expects(e); sum != "" {
			place[e.ID] = len(want)
			want = append(want, expected{e.ID, sum, e.Patients})
		}
	}
	v.expected = len(want)
	times := make([]int, len(want))
	var order []int // places in the order of arrival, each once
	for _, e := range got {
		i, known := place[e.ID]
		switch {
		case !known:
			v.differences = append(v.differences, e.ID+" arrived, and should not have")
			continue
		case e.SHA256 != want[i].sha256:
			v.differences = append(v.differences, e.ID+" arrived with other bytes")
		case (e.What == ledgerRefused) != r.refuses(e.Type):
			v.differences = append(v.differences, e.ID+" was "+e.What+", and should not have been")
		}
		if times[i]++; times[i] == 1 {
			order = append(order, i)
		}
	}
	for i, n := range times {
		switch {
		case n == 0:
			v.differences = append(v.differences, want[i].id+" did not arrive")
		case n > 1:
			v.differences = append(v.differences, fmt.Sprintf("%s arrived %d times", want[i].id, n))
		}
	}
	v.differences = append(v.differences, r.disorder(want, order)...)
	return v
}

// disorder finds messages that arrived after a later one of their line: the whole feed, or a patient.
func (r demoReceiver) disorder(want []expected, order []int) (differences []string) {
	latest := map[string]int{} // of a line, the place of the latest message that has arrived
	for _, i := range order {
		lines := want[i].patients
		if r.strict {
			lines = []string{"all"}
		}
		for _, line := range lines {
			if before, ok := latest[line]; ok && before > i {
				differences = append(differences, fmt.Sprintf("%s arrived after %s, which was sent later", want[i].id, want[before].id))
			} else {
				latest[line] = i
			}
		}
	}
	return differences
}
