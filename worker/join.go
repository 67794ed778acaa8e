package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"

	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/worker/spec"
)

// listen opens the port that gradients come in by.
func (w *worker) listen() (*mesh.Endpoint, error) {
	c := w.cfg.Cluster
	port := c.DataPort
	if port != 0 {
		port += w.spec.Slot
	}
	cfg := mesh.EndpointConfig{
		Addr: net.JoinHostPort(c.Bind, strconv.Itoa(port)), RunID: w.spec.RunID, Logger: w.log.With("part", "allreduce"),
		Flight: w.flight,
	}
	if w.keys != nil {
		level, err := mesh.ParseSecurity(w.cfg.AllReduce.Security)
		if err != nil {
			return nil, &config.Error{Source: "allreduce.security", Err: err}
		}
		cfg.Secret, cfg.Security = w.keys.DataKey(), level
	}
	e, err := mesh.Listen(cfg)
	if err != nil {
		return nil, err
	}
	w.later(e.Close)
	return e, nil
}

// build is what all workers of a run must have in common: the same program, and kernels
// that round alike. Where all processors do, the program may be compiled for several, and
// its file differs: there its version alone counts.
func (w *worker) build() string {
	b := version.Build()
	if exe := w.spec.Executable; exe != "" && !w.device.Portable() {
		b += " " + exe[:min(16, len(exe))]
	}
	return b + cluster.On + w.device.Rounding
}

// join registers with the coordinator.
func (w *worker) join(ctx context.Context, stop <-chan struct{}, endpoint *mesh.Endpoint) (*coordinator.Session, error) {
	cc := coordinator.ClientConfig{Resolve: w.spec.FindCoordinator, Logger: w.log.With("part", "coordinator")}
	if w.keys != nil {
		cc.Credentials = w.keys.ClientCredentials()
	}
	client, err := coordinator.Dial(cc)
	if err != nil {
		return nil, err
	}
	w.later(client.Close)
	addr, err := spec.Reachable(endpoint.Addr(), w.spec.Advertised)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for people only
	member := cluster.Member{
		ID: w.spec.Member, Node: w.spec.Node, Slot: w.spec.Slot, DataAddr: addr, Host: host,
		RunID: w.spec.RunID, ConfigHash: w.cfg.SharedHash(), PID: os.Getpid(),
		Build: w.build(),
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			cancel(errStopped)
		case <-done:
		}
	}()
	session, err := client.Join(ctx, member)
	if err != nil && errors.Is(context.Cause(ctx), errStopped) {
		return nil, errStopped
	}
	return session, err
}
