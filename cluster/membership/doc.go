// Package membership says who is there: the processes of a run find each other
// by gossip (SWIM with suspicion, hashicorp/memberlist) and learn within seconds
// that one has gone.
//
// The one idea: gossip gives hints, never decisions. A Node carries a small
// typed Meta (host, devices, build, config hash, phase, the coordinator's
// address); consumers read the latest snapshot (Members) or are told what
// changed last (Events). Ranks, world size and commits are the coordinator's.
//
//	m, err := membership.Start(ctx, cfg)     // binds, starts to gossip and to join the seeds
//	addr, err := m.FindCoordinator(ctx)      // waits until gossip names one
//	for e := range m.Events() { ... }        // latest state per node, never blocks the gossip
//	m.Leave(2 * time.Second)                 // tell the others; optional
//	m.Stop()                                 // idempotent
//
// What the plain library leaves to its user is done here:
//
//   - Every start takes a unique name, NODE-xxxxxxxx. A restarted process comes
//     back at once, where a known name at a new port would be refused while its
//     predecessor is not yet declared dead.
//   - Seeds are joined again and again until they are members, and so are the
//     addresses of lost nodes: a partition longer than GossipToTheDeadTime
//     (30 s) would never heal by itself.
//   - The run id is the label of every packet: two runs that share a seed or a
//     network do not merge.
//   - Without a key it refuses to listen beyond loopback.
//
// What it does not do: it elects nobody, counts no quorum, and gives no
// identity: whoever holds the key may claim any name. A process whose GPU hangs
// still gossips happily; progress is reported elsewhere.
package membership
