package mllp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/lazaret-health/lazaret/hl7/mllp"
)

// A server that acknowledges, and a client that sends it an invented message.
func Example() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &mllp.Server{
		MaxBlock: 1 << 20,
		Handler: mllp.HandlerFunc(func(ctx context.Context, peer *mllp.Peer, block []byte) ([]byte, error) {
			if !strings.HasPrefix(string(block), "MSH|") {
				return nil, mllp.ErrClose
			}
			return []byte("MSH|^~\\&|LAB|ST-MARY|ADM|ST-MARY|20260101||ACK|A1|P|2.5\rMSA|AA|M1\r"), nil
		}),
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.Serve(ctx, ln) }()

	client := &mllp.Client{Addr: ln.Addr().String()}
	answer, err := client.Send(ctx, []byte("MSH|^~\\&|ADM|ST-MARY|LAB|ST-MARY|20260101||ADT^A01|M1|P|2.5\rPID|1||4711\r"))
	var failed *mllp.SendError
	switch {
	case errors.As(err, &failed) && failed.Sent:
		fmt.Println("it may have arrived: send it again, and mark it as a possible duplicate")
	case err != nil:
		fmt.Println("it has not arrived: send it again")
	default:
		fmt.Println(strings.ReplaceAll(string(answer), "\r", "\n"))
	}

	client.Close()
	stop() // and let blocks under way be answered
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output:
	// MSH|^~\&|LAB|ST-MARY|ADM|ST-MARY|20260101||ACK|A1|P|2.5
	// MSA|AA|M1
}
