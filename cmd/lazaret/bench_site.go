package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
	"github.com/lazaret-health/lazaret/internal/config"
	"github.com/lazaret-health/lazaret/internal/control"
	"github.com/lazaret-health/lazaret/internal/hospital"
)

// benchLines is how many destinations the whole way is measured with.
const benchLines = 4

// A benchSite is the service under test: a process of its own on a configuration of its own.
type benchSite struct {
	p           *program
	dir, path   string
	cfg         *config.Config
	receivers   *child
	echoAddress string
	addresses   map[string]string // of sources, by channel

	service *exec.Cmd
	log     *os.File
	client  *control.Client

	phase    int // of messages: each phase has numbers of its own
	idle     float64
	accepted float64 // messages/s of durable accept
}

// makeBenchSite writes the configuration and starts the receivers. The accepted messages of channel accept wait for a
// destination that is paused, so that nothing else runs while accepting is measured.
func (p *program) makeBenchSite(dir, database string) (*benchSite, error) {
	if database == "" {
		database = "sqlite:data/lazaret.db"
	}
	s := &benchSite{p: p, dir: dir, path: filepath.Join(dir, "lazaret.yaml")}
	ports, err := freePorts(1 + benchLines)
	if err != nil {
		return nil, err
	}
	var listen []string
	for _, port := range ports {
		listen = append(listen, fmt.Sprintf("127.0.0.1:%d", port))
	}
	s.echoAddress = listen[0]
	var b strings.Builder
	fmt.Fprintf(&b, "organisation: bench\ndatabase: %q\nkeys: {root: \"file:keys/root\", store: keys/data}\nlog: {level: warn}\n", database)
	b.WriteString("tables: {patient-class: {values: {I: INPATIENT, O: OUTPATIENT}}}\nchannels:\n")
	channel := func(name, address, rest string) {
		fmt.Fprintf(&b, "  - name: %s\n    source: {mllp: {listen: \"127.0.0.1:0\", connections: 256, connections_per_peer: 256}}\n", name)
		fmt.Fprintf(&b, "    admit: {types: [\"ADT^*\"], duplicates: 24h}\n    destinations:\n")
		fmt.Fprintf(&b, "      - {name: receiver, mllp: {address: %q}, window: 64%s}\n", address, rest)
	}
	channel("accept", listen[0], "")
	for i := range benchLines {
		channel(fmt.Sprintf("line-%d", i+1), listen[1+i], `, filter: 'MSH-9.2 in ["A01", "A04", "A08"]', steps: [{set: {MSH-5: LIS}}, {map: {field: PV1-2, table: patient-class}}]`)
	}
	if err := os.WriteFile(s.path, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	if s.cfg, err = config.Load(s.path); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "lazaret.log")); err != nil {
		return nil, err
	}
	s.receivers, err = startChild("receivers", s.log, "bench-load", "--do", "receive", "--listen", strings.Join(listen, ","))
	return s, err
}

// start starts the service and waits until it listens.
func (s *benchSite) start(ctx context.Context) error {
	if err := s.receivers.ready(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.service = exec.Command(self, "serve", "--config", s.path)
	s.service.Stdout, s.service.Stderr = s.log, s.log
	if err := s.service.Start(); err != nil {
		return err
	}
	s.client = control.Dial(string(s.cfg.Control.Socket), "lazaret bench")
	for end := time.Now().Add(30 * time.Second); s.client.Ready(ctx) != nil; time.Sleep(2 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			text, _ := os.ReadFile(s.log.Name())
			return errors.Join(ctx.Err(), fmt.Errorf("the service does not start; its log ends:\n%s", text[max(0, len(text)-2000):]))
		}
	}
	list, err := s.client.Channels(ctx)
	if err != nil {
		return err
	}
	s.addresses = map[string]string{}
	for _, ch := range list {
		s.addresses[ch.Name] = ch.Address
	}
	return s.client.PauseDestination(ctx, "accept", "receiver")
}

func (s *benchSite) address(channel string) string { return s.addresses[channel] }

// stop ends the service in good order.
func (s *benchSite) stop() error {
	if s.service == nil {
		return nil
	}
	s.client.Close()
	err := s.service.Process.Signal(os.Interrupt)
	if err == nil {
		err = s.service.Wait()
	}
	s.service = nil
	return err
}

// end stops everything.
func (s *benchSite) end() error {
	return errors.Join(s.stop(), s.receivers.stop(), s.log.Close())
}

// sendOne sends a message and waits for its answer.
func (s *benchSite) sendOne(ctx context.Context) error {
	c := &mllp.Client{Addr: s.address("accept")}
	defer c.Close()
	answer, err := c.Send(ctx, hospital.Standard(99_999_999))
	if err != nil {
		return err
	}
	if ack, err := hl7.ParseAck(answer); err != nil || !ack.Code.Accepted() {
		return errors.Join(err, fmt.Errorf("the first message was answered %s %s: %s", ack.Code, ack.ErrorCode, ack.Text))
	}
	return nil
}

// settled counts the deliveries that have come to their end, from the service's metrics.
func (s *benchSite) settled(ctx context.Context) (n int64, err error) {
	text, err := s.client.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, "lazaret_deliveries_total{") && strings.Contains(name, `result="sent"`) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			n += int64(v)
		}
	}
	return n, nil
}

// drained waits until nothing waits on the lines, and says how much was settled, and how long after start. At the limit it
// says what there is.
func (s *benchSite) drained(ctx context.Context, start time.Time, limit time.Duration) (settled int64, took time.Duration, err error) {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		list, err := s.client.Channels(ctx)
		if err != nil {
			return 0, 0, err
		}
		var waiting int64
		for _, ch := range list {
			if ch.Name != "accept" {
				for _, d := range ch.Destinations {
					waiting += d.Waiting
				}
			}
		}
		if waiting == 0 || time.Now().After(end) {
			took := time.Since(start)
			settled, err := s.settled(ctx)
			return settled, took, err
		}
	}
}

// resident is the service's memory now in MB (10^6 bytes), and highest the most it was. 0 where the system does not tell.
func (s *benchSite) resident() float64 { return s.memory("VmRSS:") }
func (s *benchSite) highest() float64  { return s.memory("VmHWM:") }

func (s *benchSite) memory(field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.service.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err == nil {
				return kb * 1024 / 1e6
			}
		}
	}
	return 0
}
