package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"rsc.io/script"

	"github.com/lazaret-health/lazaret/hl7"
	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// testReceiver writes down what it gets and answers what it was told to.
type testReceiver struct {
	dir  string
	code hl7.AckCode
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu sync.Mutex
	n  int
}

func (o *tools) receiver(s *script.State, args ...string) (script.WaitFunc, error) {
	if len(args) < 1 {
		return nil, script.ErrUsage
	}
	r := &testReceiver{dir: s.Path(args[0]), code: hl7.AA}
	if len(args) > 1 {
		r.code = hl7.AckCode(args[1])
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.wg.Go(func() { (&mllp.Server{Handler: r}).Serve(ctx, ln) })
	o.receivers = append(o.receivers, r)
	return nil, s.Setenv(args[0], ln.Addr().String())
}

func (r *testReceiver) Handle(_ context.Context, _ *mllp.Peer, block []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	// Scripts wait for the file, so it must be whole when it is there.
	path := filepath.Join(r.dir, fmt.Sprintf("%d.hl7", r.n))
	if err := errors.Join(os.WriteFile(path+".part", block, 0o600), os.Rename(path+".part", path)); err != nil {
		return nil, err
	}
	return hl7.NewAckRaw(block, hl7.Ack{Code: r.code, Text: map[bool]string{false: "not wanted here"}[r.code == hl7.AA]}), nil
}

func (r *testReceiver) close() {
	r.stop()
	r.wg.Wait()
}

func compileLine(expr string) (*regexp.Regexp, error) { return regexp.Compile("(?m)" + expr) }
