package main

import (
	"fmt"
	"slices"
	"strings"
)

// report prints what failed and why, the table, and the last line.
func report(o options) (failed bool, err error) {
	var suites []*result
	for _, name := range strings.Fields(o.want) {
		r, err := load(o.into, name)
		if err != nil {
			return false, err
		}
		suites = append(suites, r)
	}
	if len(suites) == 0 {
		return false, fmt.Errorf("-want names no suite")
	}
	settle(suites, o.part)

	var passed, bad, skipped int
	for _, r := range suites {
		passed, bad, skipped = passed+len(r.Passed), bad+len(r.Failed), skipped+len(r.Skipped)
		for _, n := range r.Failed {
			fmt.Fprintf(o.stdout, "\n--- FAIL %s: %s\n%s", r.Suite, n.Name, indent(n.Text))
		}
	}
	if skipped > 0 {
		fmt.Fprintln(o.stdout, "\nSkipped, for what they need is not here:")
		for _, r := range suites {
			for _, n := range r.Skipped {
				fmt.Fprintf(o.stdout, "    %s: %s\n", r.Suite, n.Name)
			}
		}
	}
	fmt.Fprintf(o.stdout, "\n%-10s %7s %7s %7s %8s\n", "suite", "ran", "failed", "skipped", "time")
	var seconds float64
	for _, r := range suites {
		fmt.Fprintf(o.stdout, "%-10s %7d %7d %7d %6.0f s\n", r.Suite, r.ran(), len(r.Failed), len(r.Skipped), r.Seconds)
		seconds += r.Seconds
	}
	fmt.Fprintf(o.stdout, "%-10s %7d %7d %7d %6.0f s\n\n", "all", passed+bad, bad, skipped, seconds)
	fmt.Fprintf(o.stdout, "%d passed, %d failed, %d skipped\n", passed, bad, skipped)
	return bad > 0, nil
}

// settle decides about the skips that point to another suite, and about suites that did nothing.
func settle(suites []*result, part bool) {
	ran := map[string]bool{}
	for _, r := range suites {
		for _, n := range r.Passed {
			ran[n] = true
		}
		for _, n := range r.Failed {
			ran[n.Name] = true
		}
	}
	for _, r := range suites {
		for _, n := range r.Elsewhere {
			below := func(name string) bool { return strings.HasPrefix(name, n.Name+"/") }
			switch {
			case ran[n.Name] || slices.ContainsFunc(keys(ran), below):
			case part:
				r.Skipped = append(r.Skipped, n)
			default:
				n.Text += "skipped here, and run by no other suite\n"
				r.Failed = append(r.Failed, n)
			}
		}
		if r.ran() == 0 {
			r.Failed = append(r.Failed, note{r.Suite, "the suite ran nothing\n"})
		}
	}
}

func keys(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}
