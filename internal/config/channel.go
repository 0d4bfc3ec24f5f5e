package config

import (
	"net/netip"
	"time"

	"go.yaml.in/yaml/v4"
)

// A Channel takes messages at its source, admits them, and delivers them to its destinations.
type Channel struct {
	Name         string            `key:"name" required:"true" pattern:"name" doc:"The channel's name, unique. Stored with each of its messages."`
	Description  string            `key:"description" doc:"For people."`
	Enabled      bool              `key:"enabled" doc:"false: its source does not listen, and nothing is delivered."`
	Source       Source            `key:"source" required:"true" doc:"Where its messages come from."`
	Admit        Admit             `key:"admit" doc:"What it takes. What it does not take is answered as source.unacceptable says, and kept as rejected."`
	Destinations []Destination     `key:"destinations" doc:"Where its messages go. None: they are kept only."`
	Retention    *ChannelRetention `key:"retention" json:",omitempty" doc:"How long its content is kept, where that differs from the organisation's."`
	At           Position          `json:"-"`
}

// A Source is where a channel's messages come from, and what a sender is answered.
type Source struct {
	MLLP         *MLLPSource `key:"mllp" required:"true" doc:"HL7 v2 over MLLP: this program listens."`
	Answer       string      `key:"answer" enum:"accepted" later:"delivered,reply" doc:"When the sender is answered. accepted: as soon as the message is safe on disk."`
	Unacceptable string      `key:"unacceptable" enum:"AE,AR,AA,close" doc:"What a message that is not acceptable is answered. With AE, an unknown type, version or processing ID is answered AR. AA or close: for an old sender that would otherwise send it for ever."`
}

// An MLLPSource listens for HL7 v2 messages.
type MLLPSource struct {
	Listen             Address        `key:"listen" required:"true" doc:"HOST:PORT to listen on; no host: all addresses."`
	TLS                *ServerTLS     `key:"tls" doc:"TLS, and with clients mutual TLS."`
	Plaintext          *Plaintext     `key:"plaintext" doc:"Accepts that this connection is readable by whoever can listen on its wire. Needed without tls on an address that is not loopback."`
	Allow              []netip.Prefix `key:"allow" doc:"Address ranges that may connect. Not given: all."`
	MaxMessage         Size           `key:"max_message" doc:"The longest message that is read. A longer one is answered and ends the connection."`
	IdleTimeout        time.Duration  `key:"idle_timeout" word:"off" doc:"A connection without a message for so long is closed."`
	ReadTimeout        time.Duration  `key:"read_timeout" doc:"A message that has begun must end within this."`
	WriteTimeout       time.Duration  `key:"write_timeout" doc:"The peer must take an answer within this."`
	KeepAlive          time.Duration  `key:"keep_alive" word:"off" doc:"How often a quiet connection is probed (TCP keep-alive)."`
	Connections        int            `key:"connections" min:"1" max:"65536" doc:"The most connections at a time."`
	ConnectionsPerPeer int            `key:"connections_per_peer" min:"1" max:"65536" doc:"The most connections at a time from one address."`
	Charset            string         `key:"charset" enum:"ASCII,8859/1,8859/2,8859/3,8859/4,8859/5,8859/6,8859/7,8859/8,8859/9,8859/10,8859/13,8859/14,8859/15,8859/16,UNICODE UTF-8,UNICODE UTF-16,ISO IR87,SHIFT_JIS,EUC-JP,KS X 1001,GB 18030-2000,BIG-5,WINDOWS-1250,WINDOWS-1251,WINDOWS-1252,WINDOWS-1253,WINDOWS-1254,WINDOWS-1255,WINDOWS-1256,WINDOWS-1257,WINDOWS-1258" doc:"The character set that messages are in, whatever MSH-18 says (names of HL7 table 0211, and WINDOWS-…)."`
}

// A ServerTLS is this program's side of TLS on a listener.
type ServerTLS struct {
	Certificate File   `key:"certificate" required:"true" doc:"The certificate, and those between it and its root, as PEM."`
	Key         File   `key:"key" required:"true" doc:"The certificate's private key, as PEM, not readable by others."`
	Clients     File   `key:"clients" doc:"Mutual TLS: the authorities (PEM) one of which must have signed the client's certificate."`
	MinVersion  Text   `key:"min_version" enum:"1.2,1.3" doc:"The oldest TLS version that is spoken."`
	Names       []Text `key:"names" doc:"With clients: the names, one of which the client's certificate must bear (its first URI, else its first DNS name, else its common name)."`
}

// Plaintext is the accepted risk of a connection without TLS.
type Plaintext struct {
	Accepted string `key:"accepted" required:"true" doc:"The reason, in words. check and the log repeat it."`
}

// Admit says which messages a channel takes.
type Admit struct {
	Types         []Text        `key:"types" pattern:"type" doc:"Message types: TYPE, TYPE^EVENT or TYPE^EVENT^STRUCTURE, each part may be *. Not given: all."`
	Versions      []Text        `key:"versions" pattern:"version" doc:"HL7 versions (MSH-12). Not given: all."`
	ProcessingIDs []Text        `key:"processing_ids" enum:"P,D,T" doc:"Processing IDs (MSH-11): production, debugging, training. Not given: all."`
	MaxSize       Size          `key:"max_size" doc:"The longest message that is taken; longer ones are kept as rejected. Not given: source.mllp.max_message."`
	Rate          *Rate         `key:"rate" doc:"The most messages a peer may send; a faster one is made to wait, and refused (AR, not kept) when that takes seconds. Not given: no limit."`
	Duplicates    time.Duration `key:"duplicates" word:"off" doc:"The same sender, control ID and content within this window is answered as the first one was, and not delivered again."`
	RejectedQuota Size          `key:"rejected_quota" doc:"How much rejected content is kept a peer and day."`
}

// A Rate bounds what one peer may send.
type Rate struct {
	Messages int           `key:"messages" required:"true" min:"1" max:"1000000" doc:"So many messages …"`
	Per      time.Duration `key:"per" doc:"… in this time."`
	Burst    int           `key:"burst" min:"1" max:"1000000" doc:"So many at once. Not given: messages."`
}

// A Destination is one receiver of a channel, with a queue of its own.
type Destination struct {
	Name     string           `key:"name" required:"true" pattern:"name" doc:"The destination's name, unique in its channel."`
	Enabled  bool             `key:"enabled" doc:"false: nothing is queued for it."`
	MLLP     *MLLPDestination `key:"mllp" required:"true" doc:"HL7 v2 over MLLP: this program connects."`
	Filter   *Expression      `key:"filter" doc:"An expression that must hold for a message to go there. Not given: all go."`
	Steps    []Step           `key:"steps" doc:"What is done to the message on its way, in this order."`
	Order    string           `key:"order" enum:"strict,patient,none" doc:"strict: as accepted. patient: as accepted among messages that share a patient identifier. none: as it comes."`
	Window   int              `key:"window" min:"1" max:"64" doc:"How many messages one commit marks as started; a crash repeats at most so many, marked."`
	Retry    Retry            `key:"retry" doc:"How often a delivery is tried again."`
	OnReject string           `key:"on_reject" enum:"retry,skip,hold" doc:"What follows when the receiver refuses a message (AE, AR). skip: set it aside as an error and go on. hold: stop the queue."`
	OnError  string           `key:"on_error" enum:"hold,skip" doc:"What follows when a filter or a step fails on a message."`
	At       Position         `json:"-"`
}

// An MLLPDestination is an HL7 v2 receiver.
type MLLPDestination struct {
	Address        Endpoint      `key:"address" required:"true" doc:"HOST:PORT of the receiver."`
	TLS            *ClientTLS    `key:"tls" doc:"TLS, and with certificate and key mutual TLS."`
	Plaintext      *Plaintext    `key:"plaintext" doc:"Accepts that this connection is readable by whoever can listen on its wire. Needed without tls to an address that is not loopback."`
	ConnectTimeout time.Duration `key:"connect_timeout" doc:"A connection must stand within this."`
	AnswerTimeout  time.Duration `key:"answer_timeout" doc:"The receiver must answer within this; after that the outcome is unknown and the message is sent again, marked."`
}

// A ClientTLS is this program's side of TLS towards a receiver.
type ClientTLS struct {
	Certificate File   `key:"certificate" doc:"Mutual TLS: this program's certificate, as PEM."`
	Key         File   `key:"key" doc:"Mutual TLS: the certificate's private key, as PEM, not readable by others."`
	CA          File   `key:"ca" doc:"The authorities (PEM) one of which must have signed the receiver's certificate. Not given: the system's."`
	ServerName  string `key:"server_name" doc:"The name that the receiver's certificate must bear. Not given: the host of address."`
}

// Retry is how a delivery is tried again: after First, then twice as long each time, up to Max.
type Retry struct {
	First       time.Duration `key:"first" doc:"The wait before the second attempt; each further one is twice as long."`
	Max         time.Duration `key:"max" doc:"The longest wait."`
	Jitter      float64       `key:"jitter" min:"0" max:"1" doc:"The share of a wait that is drawn by lot, so that many queues do not come back at once."`
	GiveUpAfter GiveUp        `key:"give_up_after" doc:"After this a delivery is set aside as an error: a time (24h), a number of attempts (10 attempts), or none."`
}

func (c *Channel) setDefaults() { c.Enabled = true }
func (s *Source) setDefaults()  { s.Answer, s.Unacceptable = "accepted", "AE" }
func (m *MLLPSource) setDefaults() {
	m.MaxMessage = 16 << 20
	m.IdleTimeout, m.ReadTimeout, m.WriteTimeout, m.KeepAlive = 30*time.Minute, 30*time.Second, 30*time.Second, 15*time.Second
	m.Connections, m.ConnectionsPerPeer = 256, 32
}
func (t *ServerTLS) setDefaults() { t.MinVersion = "1.2" }
func (a *Admit) setDefaults()     { a.Duplicates, a.RejectedQuota = 24*time.Hour, 64<<20 }
func (r *Rate) setDefaults()      { r.Per = time.Second }
func (d *Destination) setDefaults() {
	d.Enabled, d.Order, d.Window, d.OnReject, d.OnError = true, "strict", 8, "hold", "hold"
}
func (m *MLLPDestination) setDefaults() {
	m.ConnectTimeout, m.AnswerTimeout = 10*time.Second, 30*time.Second
}
func (r *Retry) setDefaults() { r.First, r.Max, r.Jitter = time.Second, 5*time.Minute, 0.2 }

// settle fills what depends on other settings, and makes paths relative to dir.
func (c *Channel) settle(dir string) {
	if m := c.Source.MLLP; m != nil {
		if c.Admit.MaxSize == 0 {
			c.Admit.MaxSize = m.MaxMessage
		}
		if m.TLS != nil {
			for _, f := range []*File{&m.TLS.Certificate, &m.TLS.Key, &m.TLS.Clients} {
				f.under(dir)
			}
		}
	}
	if r := c.Admit.Rate; r != nil && r.Burst == 0 {
		r.Burst = r.Messages
	}
	for _, d := range c.Destinations {
		if d.MLLP != nil && d.MLLP.TLS != nil {
			for _, f := range []*File{&d.MLLP.TLS.Certificate, &d.MLLP.TLS.Key, &d.MLLP.TLS.CA} {
				f.under(dir)
			}
		}
	}
}

// verify holds what the keys of a source ask of each other.
func (t *ServerTLS) verify(r *reader, n *yaml.Node, key string) {
	if len(t.Names) > 0 && t.Clients == "" {
		r.fail(n, joinKey(key, "names"), "asks for names, but no client has to show a certificate", "add clients: file:PATH, the authorities that sign your clients' certificates")
	}
}

func (t *ClientTLS) verify(r *reader, n *yaml.Node, key string) {
	if (t.Certificate == "") != (t.Key == "") {
		r.fail(n, key, "certificate and key belong together, and one is missing", "give both for mutual TLS, or neither")
	}
}

func (t *Retry) verify(r *reader, n *yaml.Node, key string) {
	if t.First > t.Max {
		r.fail(n, key, "first is longer than max", "raise max, or shorten first")
	}
	if t.First <= 0 {
		r.fail(n, joinKey(key, "first"), "must be longer than nothing", `write a time, such as "1s"`)
	}
}

func (t *Rate) verify(r *reader, n *yaml.Node, key string) {
	if t.Per <= 0 {
		r.fail(n, joinKey(key, "per"), "must be longer than nothing", `write a time, such as "1s"`)
	}
}

func (m *MLLPSource) verify(r *reader, n *yaml.Node, key string) {
	if m.ConnectionsPerPeer > m.Connections {
		if field(n, "connections_per_peer") != nil {
			r.fail(n, joinKey(key, "connections_per_peer"), "is more than connections", "raise connections, or lower this")
		}
		m.ConnectionsPerPeer = m.Connections
	}
}
