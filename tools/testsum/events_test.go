package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// lines makes the stream of a suite from "action package test text".
func lines(t *testing.T, events ...event) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(line, '\n'))
	}
	return &b
}

func TestCount(t *testing.T) {
	run := func(test string) event { return event{Action: "run", Package: "p", Test: test} }
	end := func(action, test string) event { return event{Action: action, Package: "p", Test: test} }
	say := func(test, text string) event { return event{Action: "output", Package: "p", Test: test, Output: text} }

	for _, tc := range []struct {
		name                               string
		events                             []event
		passed, failed, skipped, elsewhere []string
	}{
		{
			name:   "a test that passes is counted once",
			events: []event{run("TestA"), end("pass", "TestA"), end("pass", "")},
			passed: []string{"p.TestA"},
		},
		{
			name: "a test with subtests counts through them",
			events: []event{
				run("TestA"), run("TestA/x"), run("TestA/y"),
				end("pass", "TestA/x"), end("fail", "TestA/y"), end("fail", "TestA"), end("fail", ""),
			},
			passed: []string{"p.TestA/x"}, failed: []string{"p.TestA/y"},
		},
		{
			name:   "a test that fails after its subtests passed is a failure of its own",
			events: []event{run("TestA"), run("TestA/x"), end("pass", "TestA/x"), end("fail", "TestA"), end("fail", "")},
			passed: []string{"p.TestA/x"}, failed: []string{"p.TestA"},
		},
		{
			name:   "a package that fails outside its tests is a failure",
			events: []event{run("TestA"), end("pass", "TestA"), end("fail", "")},
			passed: []string{"p.TestA"}, failed: []string{"p"},
		},
		{
			name:   "a test that never ends is a failure",
			events: []event{run("TestA"), run("TestB"), end("pass", "TestB"), end("fail", "")},
			passed: []string{"p.TestB"}, failed: []string{"p.TestA"},
		},
		{
			name:   "a package without tests is nothing",
			events: []event{end("skip", "")},
		},
		{
			name:    "a skip may say that ../shared/data is missing when it is",
			events:  []event{run("TestA"), say("TestA", "no ../shared/data here\n"), end("skip", "TestA"), end("pass", "")},
			skipped: []string{"p.TestA"},
		},
		{
			name:   "a skip that says so of a folder that is there is a failure",
			events: []event{run("TestA"), say("TestA", "no ../shared/guide here\n"), end("skip", "TestA"), end("pass", "")},
			failed: []string{"p.TestA"},
		},
		{
			name:   "a skip for what should lie beside the project is a failure when something lies there",
			events: []event{run("TestA"), say("TestA", "no messages beside the project\n"), end("skip", "TestA"), end("pass", "")},
			failed: []string{"p.TestA"},
		},
		{
			name:   "a skip for another reason is a failure",
			events: []event{run("TestA"), say("TestA", "too slow today\n"), end("skip", "TestA"), end("pass", "")},
			failed: []string{"p.TestA"},
		},
		{
			name:      "a skip that another suite runs is settled later",
			events:    []event{run("TestA"), say("TestA", "set SERVER to run this\n"), end("skip", "TestA"), end("pass", "")},
			elsewhere: []string{"p.TestA"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "shared/guide"), 0o700); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			r := newReader(&out, time.Now, filepath.Join(dir, "project"), "SERVER")
			if err := r.read(lines(t, tc.events...)); err != nil {
				t.Fatal(err)
			}
			res := r.result("s")
			names := func(ns []note) (out []string) {
				for _, n := range ns {
					out = append(out, n.Name)
				}
				return out
			}
			for _, c := range []struct {
				what      string
				got, want []string
			}{
				{"passed", res.Passed, tc.passed}, {"failed", names(res.Failed), tc.failed},
				{"skipped", names(res.Skipped), tc.skipped}, {"elsewhere", names(res.Elsewhere), tc.elsewhere},
			} {
				if !slices.Equal(c.got, c.want) {
					t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
				}
			}
		})
	}
}

func TestCompilerOutputIsShown(t *testing.T) {
	var out bytes.Buffer
	r := newReader(&out, time.Now, t.TempDir(), "")
	err := r.read(lines(t,
		event{Action: "build-output", ImportPath: "p [p.test]", Output: "p.go:1: no such thing\n"},
		event{Action: "build-fail", ImportPath: "p [p.test]"},
		event{Action: "start", Package: "p"},
		event{Action: "output", Package: "p", Output: "FAIL p [build failed]\n"},
		event{Action: "fail", Package: "p", FailedBuild: "p [p.test]"},
	))
	if err != nil {
		t.Fatal(err)
	}
	res := r.result("s")
	if len(res.Failed) != 1 || !strings.Contains(res.Failed[0].Text, "no such thing") {
		t.Errorf("got %+v, want one failure with what the compiler said", res.Failed)
	}
	if !strings.Contains(out.String(), "FAIL p ") {
		t.Errorf("progress is %q, want a line for the package", out.String())
	}
}

func TestLongOutputKeepsItsEnd(t *testing.T) {
	b := keep(nil, strings.Repeat("x", 3*maxOutput))
	b = keep(b, "the reason\n")
	if len(b) > maxOutput+8 || !strings.HasSuffix(string(b), "the reason\n") {
		t.Errorf("kept %d bytes ending in %q", len(b), b[len(b)-12:])
	}
}

func TestWhoWaitsHearsWhatRuns(t *testing.T) {
	clock := time.Unix(0, 0)
	r := newReader(&bytes.Buffer{}, func() time.Time { return clock }, t.TempDir(), "")
	r.take(event{Action: "run", Package: "p", Test: "TestSlow"})
	clock = clock.Add(time.Minute)
	r.take(event{Action: "run", Package: "p", Test: "TestQuick"})
	if name, d := r.running(); name != "p.TestSlow" || d != time.Minute {
		t.Errorf("got %s for %s, want p.TestSlow for a minute", name, d)
	}
}
