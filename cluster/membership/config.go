package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is the gossip port (TCP and UDP) of a seed that names none.
const DefaultPort = 7946

const keySize = 32 // bytes: AES-256

// ErrConfig reports a configuration that cannot work.
var ErrConfig = errors.New("membership: bad configuration")

// Config describes one process's part in the gossip.
type Config struct {
	// RunID keeps runs apart: it labels every packet (at most 255 bytes).
	RunID string
	// Node is the base of the node's name, unique among the run's nodes; a
	// random suffix makes it unique among the node's incarnations.
	Node string

	// BindHost is the address or name to listen on; "" is 127.0.0.1.
	BindHost string
	// BindPort is the TCP and UDP port to listen on; 0 takes a free one.
	BindPort int
	// AdvertiseHost and AdvertisePort are what others dial; "" and 0 are the
	// bound ones (for 0.0.0.0 and ::, the first private address of the host).
	AdvertiseHost string
	AdvertisePort int

	// Seeds are HOST[:PORT] of nodes to find the run through. A name may resolve
	// to several addresses (a headless service); each is joined. Resolved afresh
	// on every attempt.
	Seeds []string
	// SecretKey is the AES key of the gossip: 32 bytes, or empty for none.
	SecretKey []byte
	// AlsoKeys are accepted from others besides SecretKey; see SetKeys.
	AlsoKeys [][]byte
	// Meta is what this node says about itself; see UpdateMeta.
	Meta Meta
	// Logger receives what happens; nil discards it.
	Logger *slog.Logger

	// ProbeInterval is the time between two probes, of one random node each.
	// A crash is declared after about
	//	(1..2) ProbeInterval + SuspicionMult * max(1, log10 N) * ProbeInterval.
	ProbeInterval time.Duration
	// ProbeTimeout is how long the answer to a direct probe may take: the 99th
	// percentile of the round trip.
	ProbeTimeout time.Duration
	// SuspicionMult is how long a suspect may take to refute, in probe intervals.
	SuspicionMult int
	// RejoinInterval is the time between two attempts to join seeds and lost
	// nodes that are not members; while there is no other member at all, the
	// attempts start at 200 ms and back off to it.
	RejoinInterval time.Duration
	// StreamTimeout is the deadline of one TCP exchange, connecting included.
	StreamTimeout time.Duration

	// Transport replaces the network, nil for the real one. For tests.
	Transport memberlist.Transport
	// Resolver replaces the system's resolver of seed names, nil for that one.
	Resolver Resolver
}

// Resolver looks host names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var _ Resolver = (*net.Resolver)(nil)

// DefaultConfig detects a crash in 2.5 to 3 s among up to ten nodes. RunID and
// Node are left to the caller.
func DefaultConfig() Config {
	return Config{
		BindHost:       "127.0.0.1",
		ProbeInterval:  500 * time.Millisecond,
		ProbeTimeout:   200 * time.Millisecond,
		SuspicionMult:  3,
		RejoinInterval: 5 * time.Second,
		StreamTimeout:  3 * time.Second,
	}
}

// withDefaults fills the fields that may be left zero.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	if c.BindHost == "" {
		c.BindHost = d.BindHost
	}
	if c.ProbeInterval == 0 {
		c.ProbeInterval = d.ProbeInterval
	}
	if c.ProbeTimeout == 0 {
		c.ProbeTimeout = d.ProbeTimeout
	}
	if c.SuspicionMult == 0 {
		c.SuspicionMult = d.SuspicionMult
	}
	if c.RejoinInterval == 0 {
		c.RejoinInterval = d.RejoinInterval
	}
	if c.StreamTimeout == 0 {
		c.StreamTimeout = d.StreamTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Meta.Node == "" {
		c.Meta.Node = c.Node
	}
	return c
}

// Validate reports everything that is wrong with c, joined.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...))
	}
	if c.RunID == "" || len(c.RunID) > memberlist.LabelMaxSize {
		bad("run id has %d bytes, want 1 to %d", len(c.RunID), memberlist.LabelMaxSize)
	}
	if c.Node == "" || len(c.Node) > maxName || strings.ContainsAny(c.Node, "/ \t\r\n") {
		bad("node name %q must have 1 to %d bytes without space or slash", c.Node, maxName)
	}
	if c.BindPort < 0 || c.BindPort > 65535 {
		bad("bind port %d is not in 0..65535", c.BindPort)
	}
	if c.AdvertisePort < 0 || c.AdvertisePort > 65535 {
		bad("advertise port %d is not in 0..65535", c.AdvertisePort)
	}
	for _, s := range c.Seeds {
		if _, _, err := splitSeed(s); err != nil {
			errs = append(errs, err)
		}
	}
	for _, key := range append([][]byte{c.SecretKey}, c.AlsoKeys...) {
		if n := len(key); n != keySize && (n != 0 || len(c.AlsoKeys) > 0) {
			bad("the secret key has %d bytes, want %d (AES-256)", n, keySize)
		}
	}
	if c.ProbeTimeout <= 0 || c.ProbeInterval <= c.ProbeTimeout {
		bad("probe interval %v must be longer than probe timeout %v, and both positive", c.ProbeInterval, c.ProbeTimeout)
	}
	if c.SuspicionMult < 1 {
		bad("suspicion multiplier %d must be at least 1", c.SuspicionMult)
	}
	if c.RejoinInterval < 0 || c.StreamTimeout < 0 {
		bad("rejoin interval %v and stream timeout %v must be positive", c.RejoinInterval, c.StreamTimeout)
	}
	if _, err := c.Meta.Encode(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// splitSeed splits HOST[:PORT], with the port's default.
func splitSeed(seed string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(seed)
	if err != nil {
		// No port: the whole is a host, bare or bracketed.
		host, text = strings.TrimSuffix(strings.TrimPrefix(seed, "["), "]"), strconv.Itoa(DefaultPort)
		if strings.Contains(host, ":") {
			if _, err := netip.ParseAddr(host); err != nil {
				return "", 0, fmt.Errorf("%w: seed %q is not HOST:PORT", ErrConfig, seed)
			}
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		return "", 0, fmt.Errorf("%w: seed %q is not HOST:PORT", ErrConfig, seed)
	}
	return host, uint16(n), nil
}
