package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/worker/spec"
)

// Config describes a node's part.
type Config struct {
	Run     *config.Config
	RunDir  string // logs, the coordinator's journal
	Node    string // unique among the run's nodes
	Version string // of the program, for the gossip
	Secret  []byte // shared by all nodes; empty: loopback only

	// Command starts the worker of a slot; the spec goes into its environment.
	Command func(slot int, s spec.Spec) (supervise.Command, error)
	// Output receives the workers' lines, prefixed; nil: only the log files do.
	Output io.Writer
	Logger *slog.Logger
	// Notice is called with what a person should read now: a worker that died.
	Notice func(text string)
	// Joinable is called once with the address that other nodes pass to --join.
	Joinable func(addr string)
	// Watch is called about twice a second with where the run stands.
	Watch func(cluster.Status)
}

// Agent is a node's part in a run. Make it with Start.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	keys     *security.Keys // nil: no secret
	gossip   *membership.Membership
	server   *coordinator.Server // nil: another node holds it
	client   *coordinator.Client
	session  *coordinator.AgentSession
	signpost *signpost
	workers  *supervise.Supervisor
	ids      map[int]cluster.MemberID // by slot, of the incarnation that runs

	served chan error
	step   int64 // last committed step heard of, -1: none
}

// Run takes part in the run until it ends. The first signal on stop asks all
// nodes to save and end; the end of ctx kills this node's workers. The End says
// how the run ended; an error is a failure of this node's own part.
func Run(ctx context.Context, stop <-chan os.Signal, cfg Config) (cluster.End, error) {
	a := &Agent{cfg: cfg, log: cfg.Logger, ids: map[int]cluster.MemberID{}, served: make(chan error, 1), step: -1}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.close()
	if err := a.connect(ctx, stop); err != nil {
		return cluster.End{}, err
	}
	for slot := range cfg.Run.Cluster.Workers {
		if err := a.start(slot); err != nil {
			return cluster.End{}, err
		}
	}
	return a.loop(ctx, stop)
}

// connect joins the gossip, brings up or finds the coordinator, and registers.
func (a *Agent) connect(ctx context.Context, stop <-chan os.Signal) error {
	c := a.cfg.Run.Cluster
	if len(a.cfg.Secret) > 0 {
		keys, err := security.Derive(a.cfg.Secret, security.Identity{RunID: c.RunID, Node: a.cfg.Node})
		if err != nil {
			return &config.Error{Source: "cluster.secret", Err: err}
		}
		a.keys = keys
	}
	if err := security.RequireSecretBeyondLoopback(c.Bind, a.cfg.Secret); err != nil {
		return &config.Error{Source: "cluster.bind", Err: err}
	}
	var err error
	if a.workers, err = supervise.New(supervise.Config{
		Command: a.command, LogDir: filepath.Join(a.cfg.RunDir, "logs"), Output: a.cfg.Output,
		Logger: a.log, KillGrace: time.Minute,
	}); err != nil {
		return err
	}
	m := membership.DefaultConfig()
	m.RunID, m.Node, m.BindHost, m.BindPort, m.AdvertiseHost = c.RunID, a.cfg.Node, c.Bind, c.GossipPort, c.Advertise
	m.Seeds, m.Logger = c.Join, a.log.With("part", "gossip")
	if a.keys != nil {
		m.SecretKey = a.keys.GossipKey()
	}
	host, _ := os.Hostname() // for people only
	m.Meta = membership.Meta{
		Node: a.cfg.Node, Host: host, Devices: c.Workers, Build: a.cfg.Version, ConfigHash: a.cfg.Run.Hash(),
	}
	if a.gossip, err = membership.Start(ctx, m); err != nil {
		return err
	}
	if len(c.Join) == 0 {
		if err := a.coordinate(ctx, m.Meta); err != nil {
			return err
		}
	}
	if a.cfg.Joinable != nil {
		a.cfg.Joinable(a.gossip.Addr())
	}
	return a.register(ctx, stop, host)
}

// coordinate holds the coordinator on this node and tells the gossip.
func (a *Agent) coordinate(ctx context.Context, meta membership.Meta) error {
	c := a.cfg.Run.Cluster
	sc := coordinator.ServerConfig{
		Cluster: machineConfig(a.cfg.Run), Addr: net.JoinHostPort(c.Bind, strconv.Itoa(c.RPCPort)),
		Logger: a.log.With("part", "coordinator"),
	}
	// The workers of a lone node die with its agent: nobody is left to report
	// back to the next one, which must not wait for them.
	if c.Nodes != "1" {
		sc.JournalPath = filepath.Join(a.cfg.RunDir, "coordinator.json")
	}
	if a.keys != nil {
		sc.Credentials = a.keys.ServerCredentials()
	}
	server, err := coordinator.Listen(sc)
	if err != nil {
		return err
	}
	a.server = server
	go func() { a.served <- server.Serve(ctx) }()
	meta.CoordinatorAddr, err = spec.Reachable(server.Addr().String(), a.gossip.Addr())
	if err != nil {
		return err
	}
	meta.CoordinatorTerm = uint64(time.Now().UnixMilli())
	return a.gossip.UpdateMeta(meta)
}

// register finds the coordinator and announces this node to it.
func (a *Agent) register(ctx context.Context, stop <-chan os.Signal, host string) error {
	wait := config.Duration(a.cfg.Run.Cluster.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no coordinator was found within %s (cluster.start_timeout); is the first node up, with the same cluster.run_id and secret?", wait))
	defer cancel()
	found := make(chan error, 1)
	go func() {
		addr, err := a.gossip.FindCoordinator(ctx)
		if err == nil {
			err = a.dial(ctx, addr, host)
		}
		found <- err
	}()
	select {
	case err := <-found:
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	case s := <-stop:
		cancel()
		a.log.Debug("registration was cut short", "err", <-found) // it ends now; the signal is the reason
		return &SignalError{s}
	}
}

func (a *Agent) dial(ctx context.Context, addr, host string) (err error) {
	cc := coordinator.ClientConfig{Addr: addr, Resolve: a.gossip.FindCoordinator, Logger: a.log.With("part", "coordinator")}
	if a.keys != nil {
		cc.Credentials = a.keys.ClientCredentials()
	}
	if a.client, err = coordinator.Dial(cc); err != nil {
		return err
	}
	if a.session, err = a.client.Supervise(ctx, coordinator.Node{
		Name: a.cfg.Node, Host: host, Slots: a.cfg.Run.Cluster.Workers, RunID: a.cfg.Run.Cluster.RunID,
	}); err != nil {
		return err
	}
	a.signpost, err = newSignpost(a.cfg.RunDir, a.cfg.Node, addr, a.gossip, a.log)
	return err
}

// SignalError says that a signal ended the node's part before the run began.
type SignalError struct{ Signal os.Signal }

func (e *SignalError) Error() string {
	return "stopped by " + signalName(e.Signal) + " before the run began"
}

// machineConfig are the coordinator's rules for a run.
func machineConfig(c *config.Config) cluster.Config {
	m := cluster.DefaultConfig()
	lo, hi, _ := config.ParseNodes(c.Cluster.Nodes) // validated with the configuration
	m.RunID, m.ConfigHash, m.TotalSteps = c.Cluster.RunID, c.Hash(), c.Train.Steps
	m.MinWorkers, m.MaxWorkers = lo*c.Cluster.Workers, hi*c.Cluster.Workers
	m.FormationTimeout = config.Duration(c.Cluster.FormWait)
	m.StartTimeout = config.Duration(c.Cluster.StartTimeout)
	m.MinStepDeadline = config.Duration(c.Cluster.StepDeadline)
	m.MaxRestarts, m.RestartWindow = c.Cluster.MaxRestarts, time.Hour
	m.AllowMinority = c.Cluster.AllowMinority
	return m
}

// close undoes connect, the workers first: nothing of theirs may outlive it.
func (a *Agent) close() {
	if a.workers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		for _, w := range a.workers.Running() {
			if err := a.workers.Kill(w.Slot); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
				a.log.Warn("cannot end a worker", "slot", w.Slot, "err", err)
			}
		}
		go func() {
			for range a.workers.Exits() { // drained so that Close can end
			}
		}()
		if err := a.workers.Close(ctx); err != nil {
			a.log.Error("workers are left behind", "err", err)
		}
	}
	if a.signpost != nil {
		if err := a.signpost.takeDown(); err != nil {
			a.log.Warn("closing", "err", err)
		}
	}
	if a.client != nil {
		_ = a.client.Close() // the run is over; there is nobody to tell
	}
	if a.gossip != nil {
		_ = a.gossip.Leave(time.Second) // best effort: others notice by themselves
		a.gossip.Stop()
	}
}

func (a *Agent) signalWorkers(sig syscall.Signal) {
	for _, w := range a.workers.Running() {
		if err := a.workers.Signal(w.Slot, sig); err != nil && !errors.Is(err, supervise.ErrNotRunning) {
			a.log.Warn("cannot signal a worker", "slot", w.Slot, "err", err)
		}
	}
}
