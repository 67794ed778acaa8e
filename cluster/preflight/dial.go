//go:build unix

package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Defaults of DialConfig.
const (
	DefaultDialTimeout = 3 * time.Second
	DefaultParallel    = 16
)

// Resolver looks host names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dialer opens connections; *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// DialConfig describes how DialAll dials; the zero value has defaults.
type DialConfig struct {
	// Timeout bounds the look-up and the connection, for each peer.
	Timeout time.Duration
	// Parallel is how many peers are dialled at once.
	Parallel int
	// Resolver and Dialer replace the system's. For tests.
	Resolver Resolver
	Dialer   Dialer
}

// DialAll connects to each HOST:PORT by TCP and hangs up. It returns nil if all
// answer, else one Error a peer, in the order of addrs.
func DialAll(ctx context.Context, addrs []string, cfg DialConfig) error {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultDialTimeout
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = DefaultParallel
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	if cfg.Dialer == nil {
		cfg.Dialer = &net.Dialer{}
	}
	errs := make([]error, len(addrs))
	slots := make(chan struct{}, cfg.Parallel)
	var wg sync.WaitGroup
	for i, addr := range addrs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if p := dial(ctx, addr, cfg); p != nil {
				errs[i] = p
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// dial checks one peer. A name with several addresses is fine if one answers.
func dial(ctx context.Context, addr string, cfg DialConfig) *Error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &Error{Check: "dial", Subject: addr, Err: err, Fix: "write the peer as HOST:PORT"}
	}
	var ips []netip.Addr
	if ip, parseErr := netip.ParseAddr(host); parseErr == nil {
		ips = []netip.Addr{ip}
	} else if ips, err = cfg.Resolver.LookupNetIP(ctx, "ip", host); err != nil || len(ips) == 0 {
		if err == nil {
			err = errors.New("the name has no address") //nolint:err113 // goes into an Error
		}
		return &Error{
			Check: "dns", Subject: addr, Err: err,
			Fix: "check the name and this host's resolver; in Kubernetes the peers need a headless Service with publishNotReadyAddresses: true",
		}
	}
	var last error
	for _, ip := range ips {
		conn, err := cfg.Dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.Unmap().String(), port))
		if err == nil {
			_ = conn.Close()
			return nil
		}
		last = err
	}
	return &Error{Check: "dial", Subject: addr, Err: last, Fix: fixDial(last, port)}
}

// fixDial says what usually lies behind a failed connection.
func fixDial(err error, port string) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "the check was cut short; run it again"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("the host answers, but nothing listens on port %s: is agrdist started there, with this port and not bound to 127.0.0.1?", port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route: the peer advertises an address of another network; set cluster.advertise there"
	case errors.Is(err, syscall.EMFILE):
		return "this process has no file descriptors left: raise ulimit -n"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("nothing answers: a firewall, security group or NetworkPolicy drops TCP port %s, or the peer advertises an address that is not routed (cluster.advertise)", port)
	default:
		return "see whether the peer is up and reachable from this host"
	}
}
