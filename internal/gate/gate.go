package gate

import (
	"container/list"
	"net"
	"sync"
	"time"
)

// Config describes a Gate.
type Config struct {
	// Limit is the number of strangers at a time, at least 1.
	Limit int
	// PerHost is how many of them may come from one address other than loopback, which
	// all users of this machine share. 0: Limit.
	PerHost int
	// Patience is how long a stranger may stay. Nothing but the gate's own timer ends
	// it, so deadlines of the connection are the caller's. 0: for ever.
	Patience time.Duration
}

// Gate keeps the strangers of a listener.
type Gate struct {
	cfg Config

	mu       sync.Mutex
	closed   bool
	all      list.List // of *Visit, the oldest first
	byHost   map[string]int
	favoured map[string]bool
}

// Visit is a stranger's stay.
type Visit struct {
	g     *Gate
	conn  net.Conn
	host  string
	timer *time.Timer
	at    *list.Element // nil: it has ended
}

// New returns a gate.
func New(cfg Config) *Gate {
	if cfg.PerHost == 0 {
		cfg.PerHost = cfg.Limit
	}
	return &Gate{cfg: cfg, byHost: map[string]int{}}
}

// Favour names the hosts (IP addresses) of members: strangers from there are never
// sent away for strangers from elsewhere. It replaces what was named before.
func (g *Gate) Favour(hosts []string) {
	favoured := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		favoured[h] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.favoured = favoured
}

// Enter takes a connection in, and closes the oldest that is one too many.
func (g *Gate) Enter(conn net.Conn) *Visit {
	v := &Visit{g: g, conn: conn, host: hostOf(conn)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = conn.Close()
		return v
	}
	if g.byHost[v.host] >= g.limitOf(v.host) {
		g.sendAway(func(o *Visit) bool { return o.host == v.host })
	}
	if g.all.Len() >= g.cfg.Limit && !g.sendAway(func(o *Visit) bool { return !g.favoured[o.host] }) {
		if !g.favoured[v.host] {
			_ = conn.Close() // all who stand here are members' hosts
			return v
		}
		g.sendAway(func(*Visit) bool { return true })
	}
	v.at = g.all.PushBack(v)
	g.byHost[v.host]++
	if g.cfg.Patience > 0 {
		v.timer = time.AfterFunc(g.cfg.Patience, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.end(v, true)
		})
	}
	return v
}

func (g *Gate) limitOf(host string) int {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return g.cfg.Limit
	}
	return g.cfg.PerHost
}

// sendAway closes the oldest connection of those that which takes; g.mu is held.
func (g *Gate) sendAway(which func(*Visit) bool) bool {
	for e := g.all.Front(); e != nil; e = e.Next() {
		if v := e.Value.(*Visit); which(v) { //nolint:forcetypeassert // nothing else is in the list
			g.end(v, true)
			return true
		}
	}
	return false
}

// end takes a visit out; g.mu is held.
func (g *Gate) end(v *Visit, shut bool) bool {
	if v.at == nil {
		return false
	}
	g.all.Remove(v.at)
	v.at = nil
	if v.timer != nil {
		v.timer.Stop()
	}
	if g.byHost[v.host]--; g.byHost[v.host] == 0 {
		delete(g.byHost, v.host)
	}
	if shut {
		_ = v.conn.Close()
	}
	return true
}

// Leave ends the visit: the connection has proved itself, or its end. It reports
// false where the gate has closed the connection before.
func (v *Visit) Leave() bool {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	return v.g.end(v, false)
}

// Close sends all strangers away, and those who come later.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.sendAway(func(*Visit) bool { return true }) {
	}
}

// Len returns how many strangers there are.
func (g *Gate) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all.Len()
}

func hostOf(c net.Conn) string {
	addr := c.RemoteAddr()
	if addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
