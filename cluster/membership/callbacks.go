package membership

import (
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"
)

// callbacks is what the library calls, partly under its own locks: nothing here
// blocks or calls back into it.
type callbacks struct{ m *Membership }

var (
	_ memberlist.Delegate      = callbacks{}
	_ memberlist.EventDelegate = callbacks{}
	_ memberlist.AliveDelegate = callbacks{}
)

// NodeMeta implements memberlist.Delegate.
func (c callbacks) NodeMeta(int) []byte {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.meta
}

// NotifyMsg implements memberlist.Delegate; user messages are not used.
func (callbacks) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (callbacks) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (callbacks) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (callbacks) MergeRemoteState([]byte, bool) {}

// NotifyAlive keeps out nodes whose meta this build cannot read.
func (callbacks) NotifyAlive(n *memberlist.Node) error {
	_, err := DecodeMeta(n.Meta)
	return err
}

// NotifyJoin implements memberlist.EventDelegate.
func (c callbacks) NotifyJoin(n *memberlist.Node) { c.m.put(Joined, n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (c callbacks) NotifyUpdate(n *memberlist.Node) { c.m.put(Updated, n) }

// NotifyLeave implements memberlist.EventDelegate: the node left or failed.
func (c callbacks) NotifyLeave(n *memberlist.Node) { c.m.remove(n) }

// put stores a live node and reports it.
func (m *Membership) put(kind EventKind, n *memberlist.Node) {
	meta, err := DecodeMeta(n.Meta)
	if err != nil { // cannot be: NotifyAlive let it pass
		m.log.Warn("node ignored", slog.String("peer", n.Name), slog.Any("error", err))
		return
	}
	node := Node{Name: n.Name, Addr: n.Address(), Meta: meta, Self: n.Name == m.name}
	m.mu.Lock()
	m.members[node.Name] = node
	delete(m.lost, node.Name)
	m.signal()
	m.mu.Unlock()
	m.report(Event{Kind: kind, Node: node})
}

// remove takes a node that left or failed off the list and reports it.
func (m *Membership) remove(n *memberlist.Node) {
	m.mu.Lock()
	node, ok := m.members[n.Name]
	if !ok {
		m.mu.Unlock()
		return
	}
	kind := Failed
	if node.Meta.leaving || node.Self {
		kind = Left
	} else {
		m.lost[node.Name] = lost{node: node.Meta.Node, addr: node.Addr, since: time.Now()}
	}
	delete(m.members, node.Name)
	m.signal()
	m.mu.Unlock()
	m.report(Event{Kind: kind, Node: node})
}

// signal wakes whoever waits for a change. The caller holds mu.
func (m *Membership) signal() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Membership) report(e Event) {
	m.queue.push(e)
	if e.Node.Self {
		return
	}
	attrs := []any{slog.String("peer", e.Node.Name), slog.String("addr", e.Node.Addr), slog.String("host", e.Node.Meta.Host)}
	switch e.Kind {
	case Joined:
		m.log.Info("node joined", attrs...)
	case Updated:
		m.log.Debug("node updated", append(attrs, slog.String("phase", e.Node.Meta.Phase))...)
	case Left:
		m.log.Info("node left", attrs...)
	case Failed:
		m.log.Warn("node failed", attrs...)
	}
}
