package agent

import (
	"context"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/cluster/supervise"
)

// gossip is who is there. *membership.Membership is one.
type gossip interface {
	Members() []membership.Node
	// Lost names the nodes that went without a word.
	Lost() []string
	// Events wakes whoever waits for a change of Members.
	Events() <-chan membership.Event
	UpdateMeta(m membership.Meta) error
	// SetKeys changes the keys; the first is in use.
	SetKeys(keys [][]byte) error
	// Addr is what other nodes join by.
	Addr() string
	// WaitingFor says what stands between this node and a coordinator.
	WaitingFor() string
	Leave(timeout time.Duration) error
	Stop()
}

// control is the line to the coordinator, wherever that is, and the coordinator
// itself where this node holds it.
type control interface {
	// Register announces this node, waits until it is admitted, and returns the
	// session.
	Register(ctx context.Context) (session, error)
	// Serve holds the coordinator until the run is over and everybody was told, or
	// until Release, or ctx is done.
	Serve(ctx context.Context, h node.Hold) error
	Release()
	// Keep keeps what this node saw of the run, for a coordinator on it after a restart.
	Keep(seen cluster.Journal) error
	// Probe asks for an answer of whoever is at an address.
	Probe(ctx context.Context, addr string) error
	// Announce tells the other nodes that the run is over.
	Announce(e cluster.End) error
	// AnnounceSecrets tells the other nodes which secrets this one accepts.
	AnnounceSecrets(fingerprints []string) error
	RequestStop(ctx context.Context, reason string) error
	Status(ctx context.Context) (cluster.Status, error)
	Close()
}

// session is this node's place in the run. *coordinator.AgentSession is one.
type session interface {
	Kills() <-chan cluster.Kill
	Formed() <-chan cluster.Generation
	// Drain asks to leave the run; Drained is closed when this node may.
	Drain()
	Drained() <-chan struct{}
	// Config is the run's configuration, YAML.
	Config() string
	ReportExit(ctx context.Context, e cluster.Exit) (cluster.Verdict, error)
	Done() <-chan struct{}
	Err() error
}

// supervisor runs the worker processes. *supervise.Supervisor is one.
type supervisor interface {
	Start(slot int) error
	Signal(slot int, sig syscall.Signal) error
	Kill(slot int) error
	Exits() <-chan supervise.Exit
	Running() []supervise.Status
	Close(ctx context.Context) error
}

var (
	_ gossip     = (*membership.Membership)(nil)
	_ supervisor = (*supervise.Supervisor)(nil)
)
