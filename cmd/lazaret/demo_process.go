package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A child is a process of its own that was made from this same binary. It ends when its standard input does, so that nothing
// is left when we are killed, and it tells how far it is in lines of JSON.
type child struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer

	mu     sync.Mutex
	last   childNews
	failed error
	done   chan struct{}
}

// childNews is a line that a child writes.
type childNews struct {
	Sent     int    `json:"sent,omitempty"`
	Accepted int    `json:"accepted,omitempty"`
	Refused  int    `json:"refused,omitempty"`
	Taken    int    `json:"taken,omitempty"`
	Away     bool   `json:"away,omitempty"`
	Ready    bool   `json:"ready,omitempty"`
	Note     string `json:"note,omitempty"`
}

// startChild starts this binary with other arguments. Its standard error is ours, or log.
func startChild(name string, log io.Writer, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, cmd: exec.Command(self, args...), done: make(chan struct{})}
	c.cmd.Stderr = log
	c.stdin, err = c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go c.follow(out)
	return c, nil
}

// follow reads the child's news, and then its end.
func (c *child) follow(out io.Reader) {
	defer close(c.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var n childNews
		if json.Unmarshal(lines.Bytes(), &n) == nil {
			c.mu.Lock()
			c.last = n
			c.mu.Unlock()
		}
	}
	err := c.cmd.Wait()
	c.mu.Lock()
	c.failed = err
	c.mu.Unlock()
}

func (c *child) news() childNews {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// ended says whether the process is gone, and how.
func (c *child) ended() (bool, error) {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return true, c.failed
	default:
		return false, nil
	}
}

// ready waits for the child's first word.
func (c *child) ready(ctx context.Context) error {
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready", c.name)
		case <-limit.C:
			return fmt.Errorf("%s is not ready after 20 seconds", c.name)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if c.news().Ready {
				tick.Stop()
				return nil
			}
		}
	}
}

// stop asks the child to end and waits for it; after ten seconds it is killed.
func (c *child) stop() error {
	c.stdin.Close()
	limit := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer limit.Stop()
	<-c.done
	_, err := c.ended()
	return err
}

// whileStdin returns a context that ends with the parent's end of our standard input.
func (p *program) whileStdin(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, p.stdin)
		cancel()
	}()
	return ctx, cancel
}

// tell writes a child's news, at most ten times a second unless it must be said.
type teller struct {
	p    *program
	mu   sync.Mutex
	last time.Time
}

func (t *teller) tell(n childNews, must bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.p.now()
	if !must && now.Sub(t.last) < 100*time.Millisecond {
		return
	}
	t.last = now
	line, err := json.Marshal(n)
	if err == nil {
		t.p.stdout.Write(append(line, '\n'))
	}
}
