package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/cluster"
)

// A run's checkpoints are written to several disks, if there are several: a node that is
// lost with its disk then costs nothing. Every rank holds the whole state, so a replica is
// not a copy but a second writer, on another node.
//
// Which nodes share a disk they find out by its name (Store.Place).

// chooseKeepers finds the ranks that may write checkpoints: the first of each disk, one a
// node, in the order of ranks, but that those which do are far apart. With that goes the state's lineage, to ranks that copied
// the state.
func (r *round) chooseKeepers(ctx context.Context) error {
	word := []byte{byte(len(r.state.lineage)), wordNone}
	if r.parts.Store != nil {
		word[1] = wordSaved
		word = append(word, r.parts.Store.Place()...)
	}
	words, err := r.group.AllGather(ctx, word)
	if err != nil {
		return err
	}
	r.keepers = nil
	places, nodes := map[string]bool{}, map[string]bool{}
	longest := 0 // the rank that remembers most of the state that all have
	for rank, w := range words {
		if len(w) < 2 {
			return fmt.Errorf("trainer: rank %d sent %d bytes about its disk", rank, len(w))
		}
		if w[0] > words[longest][0] {
			longest = rank
		}
		place, node := string(w[2:]), r.gen.Members[rank].Node
		if w[1] == wordSaved && !places[place] && !nodes[node] {
			places[place], nodes[node] = true, true
			r.keepers = append(r.keepers, rank)
		}
	}
	spread(r.keepers, r.wanted(), r.gen.Members)
	r.state.lineage, err = r.lineageFrom(ctx, longest)
	return err
}

// spread moves ranks so that the first n are in different racks and zones, as far as there
// are such: after the first each is the one that shares the fewest levels of its topology
// with those before it, of equals the lowest rank. Ranks are in order of place, so without
// it a rack could take all replicas with it.
func spread(ranks []int, n int, members []cluster.Member) {
	for i := 1; i < n; i++ {
		best, least := i, math.MaxInt
		for j := i; j < len(ranks); j++ {
			near := 0
			for _, r := range ranks[:i] {
				near = max(near, sharedLevels(members[ranks[j]].Topology, members[r].Topology))
			}
			if near < least {
				best, least = j, near
			}
		}
		chosen := ranks[best]
		copy(ranks[i+1:best+1], ranks[i:best])
		ranks[i] = chosen
	}
}

// sharedLevels is how many levels two topologies have in common.
func sharedLevels(a, b string) (n int) {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for n < min(len(as), len(bs)) && as[n] == bs[n] && as[n] != "" {
		n++
	}
	return n
}

// wanted is on how many disks a checkpoint is to be.
func (r *round) wanted() int { return min(max(1, r.cfg.Replicas), len(r.keepers)) }

// keeps tells whether this rank writes the checkpoints while training.
func (r *round) keeps() bool { return slices.Contains(r.keepers[:r.wanted()], r.rank) }

// others are the first ranks of nodes that share the disk of a keeper: they may reach it
// where the keeper cannot.
func (r *round) others() (ranks []int) {
	for rank, m := range r.gen.Members {
		first := slices.IndexFunc(r.gen.Members, func(o cluster.Member) bool { return o.Node == m.Node })
		if rank == first && !slices.Contains(r.keepers, rank) {
			ranks = append(ranks, rank)
		}
	}
	return ranks
}
