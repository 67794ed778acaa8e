package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

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
		cfg.Secret, cfg.Security = w.keys.DataKeys()[0], level
	}
	e, err := mesh.Listen(cfg)
	if err != nil {
		return nil, err
	}
	w.later(e.Close)
	if w.keys != nil {
		err = e.Rotate(w.keys.DataKeys())
	}
	return e, err
}

// followSecrets takes up other secrets when the agent tells of them: for connections to the
// coordinator and groups that are made from then on.
func (w *worker) followSecrets(e *mesh.Endpoint) {
	if w.spec.SecretsFD == 0 || w.keys == nil {
		return
	}
	pipe := os.NewFile(uintptr(w.spec.SecretsFD), "secrets")
	syscall.CloseOnExec(w.spec.SecretsFD) // what this process starts has no part in it
	go func() {                           // it ends with the agent, and so with this process
		defer func() { _ = pipe.Close() }()
		err := spec.ReadSecrets(pipe, func(secrets [][]byte) {
			err := w.keys.Replace(secrets)
			if err == nil {
				err = e.Rotate(w.keys.DataKeys())
			}
			if err != nil {
				w.log.Warn("the run's secret stays as it was", "err", err)
				return
			}
			w.log.Info("the run's secret", "in_use_and_accepted", w.keys.Fingerprints())
		})
		if err != nil {
			w.log.Warn("the run's secret stays as it is", "err", err)
		}
	}()
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
	topology, err := config.ParseTopology(w.cfg.Cluster.Topology)
	if err != nil {
		return nil, &config.Error{Source: "cluster.topology", Err: err}
	}
	host, _ := os.Hostname() // for people only
	member := cluster.Member{
		ID: w.spec.Member, Node: w.spec.Node, Slot: w.spec.Slot, DataAddr: addr, Host: host, Topology: topology,
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
