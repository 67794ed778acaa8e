package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	firstRetry = 200 * time.Millisecond // of the seeds while nobody is found
	// lookupTimeout is more than a resolver takes to find out that its first servers do
	// not answer: 5 s each, of at most three.
	lookupTimeout = 20 * time.Second
	roundTimeout  = 3 * time.Second // what is slow delays no other attempt for longer
	lostFor       = time.Hour       // how long a failed node's address is tried again
	joinWidth     = 8               // joins under way at once
)

// ErrNoCoordinator reports that the wait for a coordinator ended without one.
var ErrNoCoordinator = errors.New("membership: no coordinator found")

// joinLoop joins, for as long as ctx lasts, every seed and every lost node that
// is not a member.
func (m *Membership) joinLoop(ctx context.Context) {
	var under attempts
	defer under.way.Wait()
	retry := firstRetry
	for {
		m.joinRound(ctx, &under)
		wait := m.cfg.RejoinInterval
		if m.alone() && len(m.cfg.Seeds) > 0 {
			wait = min(retry, wait)
			retry = 2 * wait
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (m *Membership) alone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.members) <= 1
}

// attempts are the joins under way. One that is slow, for a name server that does not
// answer for example, is left behind by the rounds, and not begun a second time.
type attempts struct {
	way  sync.WaitGroup
	mu   sync.Mutex
	busy map[string]bool
}

// begin runs an attempt unless it is under way.
func (a *attempts) begin(key string, round *sync.WaitGroup, f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy[key] {
		return
	}
	if a.busy == nil {
		a.busy = map[string]bool{}
	}
	a.busy[key] = true
	round.Add(1)
	a.way.Go(func() {
		defer round.Done()
		f()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, key)
	})
}

// joinRound tries each seed and each lost node once, a few at a time.
func (m *Membership) joinRound(ctx context.Context, under *attempts) {
	round := &sync.WaitGroup{}
	slots := make(chan struct{}, joinWidth)
	join := func(addr string) error {
		slots <- struct{}{}
		defer func() { <-slots }()
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := m.list.Join([]string{addr})
		return err //nolint:wrapcheck // explained where it is of interest
	}
	for _, seed := range m.cfg.Seeds {
		under.begin("seed "+seed, round, func() { m.joinSeed(ctx, seed, join) })
	}
	for _, addr := range m.lostAddrs() {
		under.begin(addr, round, func() { _ = join(addr) }) // it may well be gone for good
	}
	done := make(chan struct{})
	under.way.Go(func() {
		round.Wait()
		close(done)
	})
	late := time.NewTimer(roundTimeout)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	case <-ctx.Done():
	}
}

// joinSeed resolves a seed and joins those of its addresses that are no members.
// One address that answers is enough for the seed to count as reached.
func (m *Membership) joinSeed(ctx context.Context, seed string, join func(addr string) error) {
	addrs, err := m.resolve(ctx, seed)
	reached := false
	var errs []error
	for _, addr := range addrs {
		if ctx.Err() != nil {
			return
		}
		if m.isMember(addr) {
			reached = true
			continue
		}
		if joinErr := join(addr); joinErr != nil {
			errs = append(errs, explainJoin(joinErr))
		} else {
			reached = true
		}
	}
	if err == nil && !reached {
		err = errors.Join(errs...)
	}
	if ctx.Err() == nil {
		m.setSeed(seed, err)
	}
}

// resolve returns the addresses of a seed, IP:PORT.
func (m *Membership) resolve(ctx context.Context, seed string) ([]string, error) {
	host, port, err := splitSeed(seed)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{netip.AddrPortFrom(ip, port).String()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := m.cfg.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("look up %s: no address yet", host)
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port).String()
	}
	return addrs, nil
}

// explainJoin says on one line why a seed could not be joined.
func explainJoin(err error) error {
	text := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "1 error occurred:", "")), " ")
	text = strings.TrimPrefix(text, "* ")
	switch {
	case strings.Contains(text, "EOF"), strings.Contains(text, "connection reset"):
		text += " (it hung up: another run id, another secret, or no agrdist at that port)"
	case strings.Contains(text, "crypt"), strings.Contains(text, "invalid msgType"): // the latter: it asks for a proof
		text += " (AGRDIST_CLUSTER_SECRET or cluster.secret_file must be the same on every node)"
	}
	return errors.New(text) //nolint:err113 // the library's multierror, said on one line
}

func (m *Membership) isMember(addr string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.members {
		if n.Addr == addr {
			return true
		}
	}
	return false
}

// lostAddrs returns the addresses of failed nodes still worth a try that no
// member has taken over, sorted.
func (m *Membership) lostAddrs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := map[string]bool{}
	for _, n := range m.members {
		live[n.Addr] = true
	}
	var addrs []string
	for name, l := range m.lost {
		if live[l.addr] || time.Since(l.since) > lostFor {
			delete(m.lost, name)
			continue
		}
		addrs = append(addrs, l.addr)
	}
	sort.Strings(addrs)
	return slices.Compact(addrs)
}

// Lost returns the names (Meta.Node) of the nodes that failed, did not leave, and
// are not back, sorted.
func (m *Membership) Lost() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, l := range m.lost {
		back := false
		for _, n := range m.members {
			back = back || n.Meta.Node == l.node
		}
		if !back {
			names = append(names, l.node)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

// setSeed records how a seed fared and logs it when that has changed.
func (m *Membership) setSeed(seed string, err error) {
	m.mu.Lock()
	old, known := m.seeds[seed]
	same := known && (old == nil) == (err == nil) && (err == nil || old.Error() == err.Error())
	m.seeds[seed] = err
	if !same {
		m.signal()
	}
	m.mu.Unlock()
	switch {
	case same:
	case err != nil:
		m.log.Warn("seed not reached, trying on", slog.String("seed", seed), slog.Any("error", err))
	default:
		m.log.Info("seed reached", slog.String("seed", seed))
	}
}

// FindCoordinator waits until gossip names a coordinator and returns its
// address. Names that do not resolve yet and seeds that do not answer yet are
// tried again until ctx ends; whom it waits for is logged when that changes.
func (m *Membership) FindCoordinator(ctx context.Context) (string, error) {
	said := ""
	for {
		m.mu.Lock()
		addr := m.coordinator()
		waiting := m.waitingFor()
		changed := m.changed
		m.mu.Unlock()
		if addr != "" {
			return addr, nil
		}
		if waiting != said {
			said = waiting
			m.log.InfoContext(ctx, "waiting for a coordinator", slog.String("waiting_for", waiting))
		}
		select {
		case <-changed:
		case <-m.done:
			return "", fmt.Errorf("%w: %w", ErrNoCoordinator, ErrStopped)
		case <-ctx.Done():
			return "", fmt.Errorf("%w: waited for %s: %w", ErrNoCoordinator, waiting, context.Cause(ctx))
		}
	}
}

// coordinator returns the address that the live node with the highest term
// names; ties go to the smallest name, so that all choose alike. Holds mu.
func (m *Membership) coordinator() string {
	var best *Node
	for _, n := range m.members {
		if n.Meta.CoordinatorAddr == "" {
			continue
		}
		if best == nil || n.Meta.CoordinatorTerm > best.Meta.CoordinatorTerm ||
			(n.Meta.CoordinatorTerm == best.Meta.CoordinatorTerm && n.Name < best.Name) {
			best = &n
		}
	}
	if best == nil {
		return ""
	}
	return best.Meta.CoordinatorAddr
}

// WaitingFor says what stands between this node and a coordinator, for people.
func (m *Membership) WaitingFor() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waitingFor()
}

// waitingFor is WaitingFor; the caller holds mu.
func (m *Membership) waitingFor() string {
	var bad []string
	for _, seed := range m.cfg.Seeds {
		if err, known := m.seeds[seed]; !known {
			bad = append(bad, "seed "+seed+" (not tried yet)")
		} else if err != nil {
			bad = append(bad, "seed "+seed+" ("+err.Error()+")")
		}
	}
	switch {
	case len(bad) > 0:
		return strings.Join(bad, ", ")
	case len(m.members) > 1:
		return fmt.Sprintf("one of %d members to start a coordinator", len(m.members))
	case len(m.cfg.Seeds) == 0:
		return "somebody to join " + m.addr
	default:
		return "other members; the seeds name this node only"
	}
}
