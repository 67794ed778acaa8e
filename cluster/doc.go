// Package cluster decides who is in a run: it forms generations, numbered
// groups of workers in rank order, from what it is told of workers that join,
// report, fall silent, hang, break and die.
//
// Its one idea: the decision is a pure function. Machine has no clock, no
// goroutine and no I/O; Step takes the time and the events and returns actions.
// So every rule below is tested with made-up clocks, by transcripts (testdata)
// and by random histories, and cluster/coordinator is only the shell that
// carries the actions out.
//
//	m, err := cluster.New(cfg, now)
//	for _, a := range m.Step(now, cluster.Tick{}) {
//		switch a := a.(type) {
//		case cluster.Form: // tell a.Generation to its members
//		...
//
// # States
//
//	          all came, or enough and waited
//	forming ---------------------------------> running <-----> waiting
//	   |  restarted, or a worker holds a newer    ^  | |   no quorum, or
//	   |  generation                              |  | |   nobody is left
//	   +---------> recovering --------------------+  | +-> stopping --> over
//	                  all are back, or waited        +---> finishing -> over
//
// Any state ends in over with OutcomeFailed when a rule says that continuing is
// pointless: too few workers at the start, a bad configuration (exit code 42),
// early deaths, the restart budget, ranks that disagree on the final digest.
//
// # Who commits
//
// A step commits in the data plane: its last bucket carries a word to which
// every rank of the generation adds, so no rank commits without all the others
// having taken part, and a generation that lost a member commits nothing more.
// The machine learns of commits from reports and fences them by the number:
// a report of any generation but the newest moves nothing. Commits are ordered
// by (generation, step); a newer generation repeats a step only if none of its
// members holds it, and, training being a pure function, repeats the same bits.
//
// # Why a quorum, and which
//
// One coordinator at a time is the rule, but a partition can give each side one
// (the agent that holds it is on one side; the other side starts another). Each
// could then form a generation of the workers it hears, and the run would fork.
// So a generation must contain a majority of the last generation known to have
// COMMITTED a step. Two disjoint groups cannot both have that, and since all
// members of a committed generation know it and name it when they register, a
// coordinator that hears a majority of an older one hears of the newer one too
// (dynamic voting).
//
// A generation formed since then may have committed too, unheard: losing the
// coordinator stops nothing, and of its members some may have had all words of its
// first step when it broke, and others not. So a successor needs a majority of each
// of those as well, until one of their members reports that it left without giving
// its part of a word: no generation commits without all its members, so that one
// never did and never will. (These are the ambiguous attempts of Yeger Lotem,
// Keidar and Dolev, "Dynamic voting for consistent primary components", PODC 1997.)
// A worker names the generations in which it gave its part to every coordinator that
// it registers with, which may not know of them.
//
// Members whose death their node's supervisor certified (it reaped the process)
// are not counted: the dead do not vote for the other side. Without that, two
// crashes of three would stop a run for ever. A member that is merely unheard is
// counted. Exactly half is enough if the lowest counted rank is in it
// (dynamic-linear voting: Jajodia and Mutchler, ACM TODS 15(2), 1990), so that a
// run on two nodes survives the loss of one half of the time instead of never.
// Both sides may know of different deaths: let n members, d1 and d2 of them
// dead to either side and D dead in truth. The sides hold disjoint sets of the
// n-D living, at least (n-d1)/2 and (n-d2)/2, together at least n-(d1+d2)/2,
// which exceeds n-D unless d1 = d2 = D, and then both count the same lowest rank.
//
// If all members of a generation are dead, nobody is left to count, and both sides may know
// it. Then those who sit in their places (a node's slot) count for them: who has a place is
// one process, on one side.
//
// A member that one side counts as dead may have lived when the other side formed its
// generation, and been in it. So a death counts only with what the dead one's node has
// seen: its agent names, when it registers, the generations since the last one that it
// knows to have committed, and until it has no new worker takes the place of another one.
//
// Before the first generation there is nothing to have a majority of. It is formed by one
// coordinator only, that of the node that starts the run (Config.MayBegin).
//
// Config.AllowMinority is the operator's word that the unheard are dead.
//
// # Ranks
//
// Those that have the state come before those that do not. Survivors keep their relative
// order, newcomers follow by (node join order, slot). Then those that compute are brought
// together by place (Member.Topology, and the node): workers of one node have ranks next to
// each other, and so have those of one rack and of one zone. Who comes later follows those
// of its node, or else of its rack, and rank 0 stays where it is. Nothing else may depend
// on ranks: the same step gives the same bits at any world size and in any order.
//
// # Spares
//
// Up to MaxSpares of a generation's members come after MaxWorkers that compute; they take
// part in every step. A member that has no state while others do is among them too: it
// learns, and the generation after lets it compute. A generation that replaces one with
// nothing wrong in it says so (Generation.After): its members first commit the step that
// they are at. It is not formed while a member may be about to be lost.
//
// # Too few nodes
//
// With Config.MinNodes a run continues only while so many nodes live: those of which a
// worker or an agent is heard, and that were not let go. Below that its generation ends,
// and the workers wait with the state, without limit (await says for whom). A stop ends the
// wait: those who are here save.
//
// # Leaving
//
// A node that wants to leave takes part in the step in flight: the members are told to leave
// their generation after it (Abort.AfterStep), and when all have, the node is let go and the
// next generation is formed.
//
// # Lost at once
//
// A worker whose stream is broken is lost after LostAfter: it may only be registering again.
// But where its end closed the stream, its end closed a connection of the group too (as the
// rank that blames it says), and its node's agent is gone, the processes have ended and
// nobody is there to certify it. It is lost at once, uncertified: it counts for the majority,
// and should it live, it registers again and is taken in.
//
// # Hangs
//
// A generation hangs when no member's (step, phase, bucket) changed for a
// deadline that follows the step time (Config). The culprit is the one everybody
// waits for: who has not taken up the generation, then who is at a lower step,
// then who computes while others wait in the all-reduce, then the lowest bucket.
// It is evicted and its agent asked to kill it. If all wait at one place nobody
// is named; the same members try again, a limited number of times.
//
// # Dead links
//
// Two members may each reach the coordinator and not one another. A member that misses a
// connection names the peer (PhaseConnect); if both have taken up the generation and still
// miss each other after LinkDeadline, the generation ends. After LinkTries of them the
// smallest set of nodes without which no dead link is left stays out of the run, its
// workers alive. One of them probes the link now and then, and when a connection gets
// through, the node takes part again.
//
// # What it does not do
//
// It moves no parameters, names no checkpoint and opens no connection. It trusts
// its callers: who may speak for a worker is the shell's to check.
package cluster
