package agent

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/worker/spec"
)

// remote speaks to the coordinator by gRPC, and serves it on this node when asked.
type remote struct {
	*Agent
	client *coordinator.Client

	journal sync.Mutex // held while this node keeps or serves it
	mu      sync.Mutex
	meta    membership.Meta
	server  *coordinator.Server // nil: another node holds it
	stop    func()              // ends Serve
}

var _ control = (*remote)(nil)

// probeTime is how long an answer to a probe may take.
const probeTime = 2 * time.Second

func newRemote(a *Agent, meta membership.Meta) (*remote, error) {
	r := &remote{Agent: a, meta: meta, stop: func() {}}
	var err error
	r.client, err = r.dial(coordinator.ClientConfig{Resolve: a.signpost.find})
	return r, err
}

func (r *remote) dial(c coordinator.ClientConfig) (*coordinator.Client, error) {
	c.Logger = r.log.With("part", "coordinator")
	if r.keys != nil {
		c.Credentials = r.keys.ClientCredentials()
	}
	return coordinator.Dial(c)
}

// Register implements control.
func (r *remote) Register(ctx context.Context) (session, error) {
	s, err := r.client.Supervise(ctx, coordinator.Node{
		Name: r.cfg.Node, Host: r.meta.Host, Slots: r.cfg.Run.Cluster.Workers, RunID: r.cfg.Run.Cluster.RunID, Seen: r.seen,
		Refused: func(err error) { r.post(ctx, node.Waiting{For: "a place in the run: " + err.Error()}) },
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Serve implements control: it binds, makes itself known by gossip, and serves.
func (r *remote) Serve(ctx context.Context, h node.Hold) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.journal.Lock()
	defer r.journal.Unlock()
	server, err := r.listen(h)
	if err != nil {
		return err
	}
	addr, err := spec.Reachable(server.Addr().String(), r.gossip.Addr())
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.server, r.stop = server, cancel
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.server, r.stop = nil, func() {}
		r.mu.Unlock()
		_ = r.tell(func(m *membership.Meta) { m.CoordinatorAddr = "" }) // the gossip has stopped: all know
	}()
	if err := r.tell(func(m *membership.Meta) { m.CoordinatorAddr, m.CoordinatorTerm = addr, h.Term }); err != nil {
		return err
	}
	err = server.Serve(ctx)
	if _, ok := errors.AsType[*coordinator.EndError](err); ok {
		return nil // the sessions have heard it
	}
	return err
}

// listen binds the coordinator: where it was before, if nothing else is there.
func (r *remote) listen(h node.Hold) (*coordinator.Server, error) {
	c, id := r.cfg.Run.Cluster, r.cfg.Identity
	rules := machineConfig(r.cfg.Run)
	rules.MayBegin = h.Begin
	sc := coordinator.ServerConfig{
		Cluster: rules, Seen: h.Seen, Silent: h.Silent,
		Config: string(r.cfg.Run.YAML(false)), Logger: r.log.With("part", "coordinator"),
	}
	// The workers of a lone node die with its agent: nobody is left to report
	// back to the next one, which must not wait for them.
	if !c.Lone() {
		sc.JournalPath = rundir.Dir(r.cfg.RunDir).Journal()
	}
	if r.keys != nil {
		sc.Credentials = r.keys.ServerCredentials()
	}
	bind := func(port int) (*coordinator.Server, error) {
		sc.Addr = net.JoinHostPort(c.Bind, strconv.Itoa(port))
		return coordinator.Listen(sc)
	}
	if id == nil {
		return bind(c.RPCPort)
	}
	var server *coordinator.Server
	var err error
	if c.RPCPort == 0 && id.RPCPort != 0 {
		server, _ = bind(id.RPCPort) // taken, perhaps
	}
	if server == nil {
		if server, err = bind(c.RPCPort); err != nil {
			return nil, err
		}
	}
	if tcp, ok := server.Addr().(*net.TCPAddr); ok {
		if err := id.ports(0, tcp.Port); err != nil {
			r.log.Warn("the coordinator's port is not kept", "err", err)
		}
	}
	return server, nil
}

// tell changes what this node says of itself in the gossip.
func (r *remote) tell(change func(m *membership.Meta)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.meta)
	return r.gossip.UpdateMeta(r.meta)
}

// Keep implements control. A coordinator on this node keeps more than this.
func (r *remote) Keep(seen cluster.Journal) error {
	if !r.journal.TryLock() {
		return nil
	}
	defer r.journal.Unlock()
	return coordinator.KeepJournal(rundir.Dir(r.cfg.RunDir).Journal(), seen)
}

// Announce implements control.
func (r *remote) Announce(e cluster.End) error {
	return r.tell(func(m *membership.Meta) {
		m.EndOutcome, m.EndCode, m.EndStep, m.EndDigest, m.EndReason, m.EndSavedOn = int(e.Outcome), e.ExitCode, e.Step, e.Digest, e.Reason, e.SavedOn
		m.Build, m.ConfigHash, m.Secrets = "", "", "" // nobody joins any more; the end needs the room
	})
}

// AnnounceSecrets implements control.
func (r *remote) AnnounceSecrets(fingerprints []string) error {
	return r.tell(func(m *membership.Meta) {
		if m.EndOutcome == 0 {
			m.Secrets = strings.Join(fingerprints, " ")
		}
	})
}

// Release implements control.
func (r *remote) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stop()
}

// Probe implements control. A connection alone would say nothing: the kernel
// accepts for a process that is stopped.
func (r *remote) Probe(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	client, err := r.dial(coordinator.ClientConfig{Addr: addr})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // nothing is sent over it any more
	_, err = client.Status(ctx)
	return err
}

// Status implements control.
func (r *remote) Status(ctx context.Context) (cluster.Status, error) {
	r.mu.Lock()
	server := r.server
	r.mu.Unlock()
	if server != nil {
		return server.Status(ctx)
	}
	return r.client.Status(ctx)
}

// RequestStop implements control.
func (r *remote) RequestStop(ctx context.Context, reason string) error {
	return r.client.RequestStop(ctx, reason)
}

// Close implements control.
func (r *remote) Close() {
	_ = r.client.Close() // the run is over; there is nobody to tell
}
