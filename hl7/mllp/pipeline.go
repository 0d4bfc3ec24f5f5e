package mllp

import "context"

// Pipeline sends blocks in order, with up to window of them on their way before their answers have come, and calls
// answered for each answer in order. Answers must come in the order of the blocks, as the standard has it. The first
// error ends it: answered was called for all blocks before the failed one; the error is a *SendError about that one,
// and tells how many after it may have arrived too.
//
// A window below 2 waits for each answer, as Send does. Receivers that read one block a packet exist: use a window
// only where the receiver is known to take it.
func (c *Client) Pipeline(ctx context.Context, blocks [][]byte, window int, answered func(i int, answer []byte)) error {
	for _, b := range blocks {
		if err := carriable(b); err != nil {
			return c.failure("frame", err)
		}
	}
	ctx, done, err := c.begin(ctx)
	if err != nil {
		return c.failure("dial", err)
	}
	defer done()
	l, err := c.link(ctx)
	if err != nil {
		return err
	}
	stop := l.interrupt(ctx)
	err = c.exchange(ctx, l, blocks, max(window, 1), answered)
	if !stop() || err != nil {
		l.close()
		return err
	}
	c.keep(l)
	return nil
}

func (c *Client) exchange(ctx context.Context, l *link, blocks [][]byte, window int, answered func(int, []byte)) error {
	limit := orDefault(c.WriteTimeout, defaultWriteTimeout)
	begun := 0 // blocks of which a byte may have left
	fail := func(op string, i int, err error) error {
		e := c.failure(op, err)
		e.Sent, e.Ahead = begun > i, max(begun-i-1, 0)
		if e.Sent && !l.proven && handshakeRefused(err) {
			e.Op, e.Sent, e.Ahead = "handshake", false, 0
		}
		return e
	}
	for i, sent := range blocks {
		for begun < len(blocks) && begun < i+window {
			n, err := l.write(l.frame(blocks[begun]), limit)
			if n > 0 || err == nil {
				begun++
			}
			if err != nil {
				return fail("write", i, cause(ctx, err))
			}
		}
		answer, err := c.answer(ctx, l, sent)
		if err != nil {
			return fail("answer", i, err)
		}
		l.proven = true
		answered(i, answer)
	}
	return nil
}
