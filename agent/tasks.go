package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/node"
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
	var last []node.Peer
	for {
		var peers []node.Peer
		for _, n := range a.gossip.Members() {
			peers = append(peers, node.Peer{
				Node: n.Meta.Node, Self: n.Self, Coordinator: n.Meta.CoordinatorAddr, Term: n.Meta.CoordinatorTerm,
			})
		}
		if !slices.Equal(peers, last) {
			last = peers
			a.post(ctx, node.Gossip{Peers: peers})
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
	select {
	case a.admitted <- s:
	case <-ctx.Done():
		return
	}
	for {
		select {
		case k := <-s.Kills():
			a.post(ctx, node.KillOrdered{Kill: k})
		case <-s.Done():
			a.look(ctx) // the last one, as a rule
			a.post(ctx, ending(s.Err()))
			return
		case <-ctx.Done():
			return
		}
	}
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

// look takes one look at where the run stands.
func (a *Agent) look(ctx context.Context) {
	a.looking.Lock()
	defer a.looking.Unlock()
	brief, cancel := context.WithTimeout(ctx, watchTime)
	defer cancel()
	s, err := a.control.Status(brief)
	if err != nil {
		return // the next look may find more
	}
	if a.cfg.Watch != nil {
		a.cfg.Watch(s)
	}
	a.post(ctx, node.Progress{Step: s.Step})
}
