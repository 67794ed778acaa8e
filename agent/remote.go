package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/worker/spec"
)

// remote speaks to the coordinator by gRPC, and serves it on this node when asked.
type remote struct {
	*Agent
	keys   *security.Keys // nil: no secret
	meta   membership.Meta
	client *coordinator.Client

	mu     sync.Mutex
	server *coordinator.Server // nil: another node holds it
}

var _ control = (*remote)(nil)

func newRemote(a *Agent, keys *security.Keys, meta membership.Meta) (*remote, error) {
	r := &remote{Agent: a, keys: keys, meta: meta}
	cc := coordinator.ClientConfig{Resolve: a.signpost.find, Logger: a.log.With("part", "coordinator")}
	if keys != nil {
		cc.Credentials = keys.ClientCredentials()
	}
	var err error
	r.client, err = coordinator.Dial(cc)
	return r, err
}

// Register implements control.
func (r *remote) Register(ctx context.Context) (session, error) {
	s, err := r.client.Supervise(ctx, coordinator.Node{
		Name: r.cfg.Node, Host: r.meta.Host, Slots: r.cfg.Run.Cluster.Workers, RunID: r.cfg.Run.Cluster.RunID,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Serve implements control: it binds, makes itself known by gossip, and serves.
func (r *remote) Serve(ctx context.Context, term uint64) error {
	c := r.cfg.Run.Cluster
	sc := coordinator.ServerConfig{
		Cluster: machineConfig(r.cfg.Run), Addr: net.JoinHostPort(c.Bind, strconv.Itoa(c.RPCPort)),
		Config: string(r.cfg.Run.YAML(false)), Logger: r.log.With("part", "coordinator"),
	}
	// The workers of a lone node die with its agent: nobody is left to report
	// back to the next one, which must not wait for them.
	if c.Nodes != "1" {
		sc.JournalPath = filepath.Join(r.cfg.RunDir, "coordinator.json")
	}
	if r.keys != nil {
		sc.Credentials = r.keys.ServerCredentials()
	}
	server, err := coordinator.Listen(sc)
	if err != nil {
		return err
	}
	meta := r.meta
	meta.CoordinatorTerm = term
	if meta.CoordinatorAddr, err = spec.Reachable(server.Addr().String(), r.gossip.Addr()); err == nil {
		err = r.gossip.UpdateMeta(meta)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	err = server.Serve(ctx)
	if _, ok := errors.AsType[*coordinator.EndError](err); ok {
		return nil // the sessions have heard it
	}
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
