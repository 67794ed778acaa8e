package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/config"
)

// post hands an event to the machine.
func (a *Agent) post(ctx context.Context, e node.Event) {
	select {
	case a.inbox <- e:
	case <-ctx.Done():
	}
}

// watchGossip passes on who is alive, whenever that changes.
func (a *Agent) watchGossip(ctx context.Context) {
	var last node.Gossip
	for {
		view, addrs, term := node.Gossip{Lost: a.gossip.Lost()}, []string(nil), uint64(0)
		for _, n := range a.gossip.Members() {
			m := n.Meta
			p := node.Peer{Node: m.Node, Self: n.Self, Coordinator: m.CoordinatorAddr, Term: m.CoordinatorTerm}
			if m.EndOutcome != 0 {
				p.End = cluster.End{
					Outcome: cluster.Outcome(m.EndOutcome), ExitCode: m.EndCode, Step: m.EndStep, Digest: m.EndDigest, Reason: m.EndReason, SavedOn: m.EndSavedOn,
				}
			}
			view.Peers = append(view.Peers, p)
			term = max(term, m.CoordinatorTerm)
			if !n.Self {
				addrs = append(addrs, n.Addr)
			}
		}
		if !slices.Equal(view.Peers, last.Peers) || !slices.Equal(view.Lost, last.Lost) {
			last = view
			a.post(ctx, view)
		}
		if a.cfg.Identity != nil {
			if err := a.cfg.Identity.meet(addrs, term); err != nil {
				a.log.Warn("this node would not find the others again", "err", err)
			}
		}
		select {
		case <-a.gossip.Events():
		case <-ctx.Done():
			return
		}
	}
}

// register announces this node to the coordinator, once there is one, and then
// passes on what the session brings.
func (a *Agent) register(ctx context.Context) {
	s, err := a.control.Register(ctx)
	if err != nil {
		a.post(ctx, ending(err))
		return
	}
	run, err := a.adopt(ctx, s.Config())
	if err != nil {
		a.post(ctx, node.SessionLost{Err: err})
		return
	}
	select {
	case a.admitted <- admission{s, run}:
	case <-ctx.Done():
		return
	}
	drained := s.Drained()
	for {
		select {
		case k := <-s.Kills():
			a.post(ctx, node.KillOrdered{Kill: k})
		case g := <-s.Formed():
			a.post(ctx, node.Formed{Generation: g})
		case <-drained:
			drained = nil // once
			a.post(ctx, node.Drained{})
		case <-s.Done():
			a.look(ctx) // the last one, as a rule
			a.post(ctx, ending(s.Err()))
			return
		case <-ctx.Done():
			return
		}
	}
}

// nameSecrets adds to a status what the nodes say of their secrets.
func (a *Agent) nameSecrets(s *cluster.Status) {
	said := map[string]string{}
	for _, n := range a.gossip.Members() {
		said[n.Meta.Node] = n.Meta.Secrets
	}
	for i := range s.Agents {
		s.Agents[i].Secrets = said[s.Agents[i].Node]
	}
}

// admission is a node's place in a run.
type admission struct {
	session session
	run     *config.Config // what counts from now on; nil: what the node has
}

// adopt compares this node's configuration with the run's. What was left at its
// default here is as the run has it; what was given must agree.
func (a *Agent) adopt(ctx context.Context, text string) (*config.Config, error) {
	run, err := config.FromYAML([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("the run's configuration: %w", err)
	}
	if conflicts := a.cfg.Run.Conflicts(run); len(conflicts) > 0 {
		return nil, &config.Error{Source: "node " + a.cfg.Node, Err: fmt.Errorf(
			"it was given other settings than the run has: %s; leave them out (a node takes the run's) or make them equal",
			config.Describe(conflicts, "here", "in the run"))}
	}
	if len(config.Diff(a.cfg.Run, run)) == 0 {
		return nil, nil
	}
	adopted := a.cfg.Run.Adopt(run)
	a.log.Info("the run's settings count on this node", "settings", config.Describe(config.Diff(a.cfg.Run, run), "here", "in the run"))
	if a.cfg.Adopted != nil {
		if err := a.cfg.Adopted(ctx, adopted); err != nil {
			return nil, err
		}
	}
	return adopted, nil
}

// ending is the end of a session as an event.
func ending(err error) node.Event {
	if e, ok := errors.AsType[*coordinator.EndError](err); ok {
		return node.Ended{End: e.End}
	}
	if err == nil {
		err = errors.New("the session was closed")
	}
	return node.SessionLost{Err: err}
}

// watchEvery is the pause between two looks at where the run stands, and
// watchTime the longest that one may take.
const (
	watchEvery = 400 * time.Millisecond
	watchTime  = 300 * time.Millisecond
)

// watch tells whoever started the agent, and the machine, where the run stands.
func (a *Agent) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		a.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// waitsFor says what this node waits for while it has no place in the run.
func (a *Agent) waitsFor() string {
	if why := a.refusal.Load(); why != nil {
		return "a coordinator that lets it in: " + *why
	}
	return a.gossip.WaitingFor()
}

// handshakeError is what a TLS handshake failed for; nil: it did not. gRPC passes the
// text on, not the error.
func handshakeError(err error) *string {
	_, why, found := strings.Cut(err.Error(), "authentication handshake failed: ")
	if !found {
		return nil
	}
	why = strings.TrimRight(why, `"`)
	return &why
}

// look takes one look at where the run stands.
func (a *Agent) look(ctx context.Context) {
	a.looking.Lock()
	defer a.looking.Unlock()
	brief, cancel := context.WithTimeout(ctx, watchTime)
	defer cancel()
	s, err := a.control.Status(brief)
	if err != nil { // the next look may find more
		a.refusal.Store(handshakeError(err))
		a.post(ctx, node.Waiting{For: a.waitsFor()})
		return
	}
	a.refusal.Store(nil)
	a.recordGeneration(ctx, s)
	a.nameSecrets(&s)
	if a.cfg.Watch != nil {
		a.cfg.Watch(s)
	}
	a.post(ctx, node.Seen{Status: s})
}
