package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/worker/spec"
)

// Config describes a node's part.
type Config struct {
	Run    *config.Config
	RunDir string // logs, the coordinator's journal
	Node   string // unique among the run's nodes
	// Identity keeps who this node is over its processes; nil: nothing is kept.
	Identity *Identity
	Version  string // of the program, for the gossip
	// Secrets are those that this node accepts, the first of which it uses and all nodes
	// accept. None: loopback only.
	Secrets [][]byte
	// Rotation brings the secrets from now on, where they may change during the run, as
	// security.MayFollow allows; nil: they stay. Rotated is called when they are in force.
	Rotation <-chan [][]byte
	Rotated  func(secrets [][]byte, fingerprints []string)

	// Command returns the command of a slot's worker; the spec goes into its
	// environment.
	Command func(slot int, s spec.Spec) (supervise.Command, error)
	// Output receives the workers' lines, prefixed; nil: only the log files do.
	Output io.Writer
	Logger *slog.Logger
	// Record is called with what the worker of a slot tells beside its output: one at a
	// time for a slot, all of them before its exit counts.
	Record func(slot int, r spec.Record)
	// Notice is called with what a person should read now: a worker that died.
	Notice func(text string)
	// Adopted is called before the first worker starts on a node that takes the
	// configuration of another one's run, with what counts on this node from now on. An
	// error ends the node's part.
	Adopted func(ctx context.Context, run *config.Config) error
	// Joinable is called once with the address that other nodes pass to --join.
	Joinable func(addr string)
	// Watch is called about twice a second with where the run stands, from one
	// goroutine at a time, and not after Run has returned.
	Watch func(cluster.Status)
}

// Agent is a node's part in a run.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	gossip   gossip
	control  control
	workers  supervisor
	keys     *security.Keys // nil: no secret
	signpost *signpost
	flights  *flights

	// Of Run's goroutine.
	machine *node.Machine
	members map[int]cluster.MemberID // by slot, of the newest incarnation
	session session                  // nil before the node is admitted
	secrets [][]byte                 // Config's, or those that Rotation brought
	wires   wires                    // to the workers
	held    *os.File                 // copies of the state, in memory; nil: none yet
	result  *node.Return

	known struct { // what Seen of the machine returned last
		sync.Mutex
		committed cluster.Generation
		since     []cluster.Generation
	}

	inbox    chan node.Event
	admitted chan admission
	tasks    sync.WaitGroup         // end with the context of Run
	looking  sync.Mutex             // one Watch at a time
	refusal  atomic.Pointer[string] // why no connection to the coordinator was let in, last
}

// SignalError says that a signal ended the node's part before the run began.
type SignalError = node.SignalError

// LeftError says that this node has left a run that continues without it.
type LeftError = node.LeftError

// Run takes part in the run until it ends. The first signal on stop asks all
// nodes to save and end; the end of ctx kills this node's workers. The End says
// how the run ended; an error is a failure of this node's own part.
func Run(ctx context.Context, stop <-chan os.Signal, cfg Config) (cluster.End, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := newAgent(cfg)
	ctx, cancel := context.WithCancel(ctx)
	defer a.close(cancel)
	if err := a.connect(ctx); err != nil {
		return cluster.End{}, err
	}
	end, err := a.run(ctx, stop)
	if refused, ok := errors.AsType[*node.RefusedError](err); ok {
		err = &config.Error{Source: "this node", Err: errors.New(refused.Reason)}
	}
	return end, err
}

func newAgent(cfg Config) *Agent {
	return &Agent{
		cfg: cfg, log: cfg.Logger, secrets: cfg.Secrets, members: map[int]cluster.MemberID{},
		signpost: newSignpost(cfg.RunDir, cfg.Node),
		flights:  newFlights(cfg.Node, rundir.Dir(cfg.RunDir).Debug(), cfg.Logger),
		inbox:    make(chan node.Event), admitted: make(chan admission),
	}
}

// connect makes the parts: supervision, gossip, and the line to the coordinator.
func (a *Agent) connect(ctx context.Context) error {
	c := a.cfg.Run.Cluster
	if len(a.secrets) > 0 {
		var err error
		if a.keys, err = security.DeriveAll(a.secrets, security.Identity{RunID: c.RunID, Node: a.cfg.Node}); err != nil {
			return &config.Error{Source: "cluster.secret", Err: err}
		}
		a.log.Info("the run's secret", "in_use_and_accepted", a.keys.Fingerprints())
		if err := a.keys.UseFiles(security.Files{CA: c.CAFile, Cert: c.CertFile, Key: c.KeyFile, Log: a.log}); err != nil {
			return &config.Error{Source: "cluster.cert_file", Err: err}
		}
	}
	if err := security.RequireSecretBeyondLoopback(c.Bind, slices.Concat(a.secrets...)); err != nil {
		return &config.Error{Source: "cluster.bind", Err: err}
	}
	workers, err := supervise.New(supervise.Config{
		Command: a.command, LogDir: rundir.Dir(a.cfg.RunDir).Logs(), Output: a.cfg.Output,
		Record: a.record, Logger: a.log, KillGrace: time.Minute,
	})
	if err != nil {
		return err
	}
	a.workers = workers
	m := membership.DefaultConfig()
	m.RunID, m.Node, m.BindHost, m.BindPort, m.AdvertiseHost = c.RunID, a.cfg.Node, c.Bind, c.GossipPort, c.Advertise
	m.Seeds, m.Logger = c.Join, a.log.With("part", "gossip")
	host, _ := os.Hostname() // for people only
	m.Meta = membership.Meta{
		Node: a.cfg.Node, Host: host, Devices: c.Workers, Build: a.cfg.Version, ConfigHash: a.cfg.Run.SharedHash(),
	}
	if a.keys != nil {
		keys := a.keys.GossipKeys()
		m.SecretKey, m.AlsoKeys = keys[0], keys[1:]
		m.Meta.Secrets = strings.Join(a.keys.Fingerprints(), " ")
	}
	talk, err := a.startGossip(ctx, m)
	if err != nil {
		return err
	}
	a.gossip = talk
	if a.control, err = newRemote(a, m.Meta); err != nil {
		return err
	}
	if a.cfg.Joinable != nil {
		a.cfg.Joinable(a.gossip.Addr())
	}
	a.otherAddresses(c)
	return nil
}

// startGossip begins to gossip: where it did before, if nothing else is there now,
// and with whom it did before.
func (a *Agent) startGossip(ctx context.Context, m membership.Config) (*membership.Membership, error) {
	id := a.cfg.Identity
	if id == nil {
		return membership.Start(ctx, m)
	}
	m.Seeds = append(slices.Clone(m.Seeds), slices.DeleteFunc(slices.Clone(id.Peers), func(p string) bool { return slices.Contains(m.Seeds, p) })...)
	var talk *membership.Membership
	var err error
	if kept := m; m.BindPort == 0 && id.GossipPort != 0 {
		kept.BindPort = id.GossipPort
		if talk, err = membership.Start(ctx, kept); err != nil && !errors.Is(err, membership.ErrBind) {
			return nil, err
		}
	}
	if talk == nil {
		if talk, err = membership.Start(ctx, m); err != nil {
			return nil, err
		}
	}
	if err := id.ports(talk.Port(), 0); err != nil {
		talk.Stop()
		return nil, err
	}
	return talk, nil
}

// otherAddresses tells what else this node could be reached at, where it listens on
// all addresses and one had to be chosen.
func (a *Agent) otherAddresses(c config.Cluster) {
	bound := net.ParseIP(c.Bind)
	if bound == nil || !bound.IsUnspecified() || c.Advertise != "" {
		return
	}
	all, err := membership.Addresses()
	if err != nil || len(all) < 2 {
		return
	}
	var others []string
	for _, o := range all[1:] {
		others = append(others, fmt.Sprintf("%s (%s)", o.IP, o.Interface))
	}
	text := fmt.Sprintf("other nodes reach this one at %s (%s); if they cannot, set cluster.advertise here to %s",
		all[0].IP, all[0].Interface, strings.Join(others, " or "))
	if a.cfg.Notice != nil && len(c.Join) == 0 {
		a.cfg.Notice(text)
		return
	}
	a.log.Info("one of several addresses was chosen", "text", text)
}

// run drives the machine. The parts are there.
func (a *Agent) run(ctx context.Context, stop <-chan os.Signal) (end cluster.End, err error) {
	c := nodeConfig(a.cfg)
	if c.Kept, err = coordinator.ReadJournal(rundir.Dir(a.cfg.RunDir).Journal()); err != nil {
		return cluster.End{}, err
	}
	machine, err := node.New(c, time.Now())
	if err != nil {
		return cluster.End{}, err
	}
	a.machine = machine
	a.note()
	a.tasks.Go(func() { a.watchGossip(ctx) })
	a.tasks.Go(func() { a.register(ctx) })
	a.tasks.Go(func() { a.watch(ctx) })
	return a.loop(ctx, stop)
}

// foundAfter is how long a founder that is back looks for its run.
const foundAfter = 2 * time.Second

// nodeConfig are the node's rules in a run.
func nodeConfig(cfg Config) node.Config {
	c := node.DefaultConfig()
	var boot [4]byte
	_, _ = rand.Read(boot[:]) // never fails (crypto/rand)
	c.Node, c.Slots, c.Boot = cfg.Node, cfg.Run.Cluster.Workers, hex.EncodeToString(boot[:])
	c.StartTimeout = config.Duration(cfg.Run.Cluster.StartTimeout)
	c.OrphanTimeout = config.Duration(cfg.Run.Cluster.OrphanTimeout)
	c.Elastic = cfg.Run.Cluster.Elastic()
	c.Founder = len(cfg.Run.Cluster.Join) == 0
	if id := cfg.Identity; id != nil {
		c.Term = id.Term
		if id.back && len(id.Peers) > 0 {
			c.FoundAfter = foundAfter
		}
	}
	return c
}

// machineConfig are the coordinator's rules for a run.
func machineConfig(c *config.Config) cluster.Config {
	m := cluster.DefaultConfig()
	lo, hi, _ := config.ParseNodes(c.Cluster.Nodes) // validated with the configuration
	m.RunID, m.ConfigHash, m.TotalSteps = c.Cluster.RunID, c.SharedHash(), c.Train.Steps
	m.MinWorkers, m.MaxWorkers, m.MaxSpares = lo*c.Cluster.Workers, hi*c.Cluster.Workers, c.Cluster.Spares*c.Cluster.Workers
	if lo < hi {
		m.MinNodes = lo
	}
	m.FormationTimeout = config.Duration(c.Cluster.FormWait)
	m.StartTimeout = config.Duration(c.Cluster.StartTimeout)
	m.MinStepDeadline = config.Duration(c.Cluster.StepDeadline)
	m.FirstStepDeadline = config.Duration(c.Cluster.FirstDeadline)
	m.MaxRestarts, m.RestartWindow = c.Cluster.MaxRestarts, time.Hour
	m.StopTimeout += config.Duration(c.Checkpoint.FullDiskWait)
	m.AllowMinority = c.Cluster.AllowMinority
	return m
}

// close ends the parts, the workers first: nothing of theirs may outlive it.
func (a *Agent) close(cancel func()) {
	if a.workers != nil {
		ctx, done := context.WithTimeout(context.Background(), 2*time.Minute)
		defer done()
		a.killAll()
		go func() {
			for range a.workers.Exits() { // drained so that Close can end
			}
		}()
		if err := a.workers.Close(ctx); err != nil {
			a.log.Error("workers are left behind", "err", err)
		}
	}
	cancel()
	a.tasks.Wait()
	a.flights.close()
	a.wires.close()
	if a.held != nil {
		_ = a.held.Close() // memory
	}
	if err := a.signpost.takeDown(); err != nil {
		a.log.Warn("closing", "err", err)
	}
	if a.control != nil {
		a.control.Close()
	}
	if a.gossip != nil {
		_ = a.gossip.Leave(time.Second) // best effort: others notice by themselves
		a.gossip.Stop()
	}
}
