package parallel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrPin is wrapped by the errors of Pin and Cores.
var ErrPin = errors.New("parallel: cannot pin threads")

// processor is what the system schedules on: a hardware thread of a core near a
// memory node.
type processor struct{ id, node, core int }

// Cores is the default policy of pinning: the processors for the threads of worker
// slot, of count workers on this host. The physical cores that this process may
// use (its CPU mask, which a cgroup's cpuset narrows; a quota of time does not
// show there) are put in order by memory node and divided evenly, so that a
// worker's lie together; a worker takes one hardware thread of each of its cores
// before a second one. Where the system cannot pin, there are none and no error.
func Cores(slot, count, threads int) ([]int, error) {
	all, err := allowed()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPin, err)
	}
	if all == nil {
		return nil, nil
	}
	return share(all, slot, count, threads)
}

func share(all []processor, slot, count, threads int) ([]int, error) {
	if slot < 0 || slot >= count || threads < 1 {
		return nil, fmt.Errorf("%w: slot %d of %d with %d threads", ErrPin, slot, count, threads)
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b processor) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.core, b.core), cmp.Compare(a.id, b.id))
	})
	var cores [][]processor // the hardware threads of each
	for i, p := range all {
		if i > 0 && all[i-1].node == p.node && all[i-1].core == p.core {
			cores[len(cores)-1] = append(cores[len(cores)-1], p)
		} else {
			cores = append(cores, []processor{p})
		}
	}
	if len(cores) < count { // workers share cores
		cores = cores[:0]
		for _, p := range all {
			cores = append(cores, []processor{p})
		}
	}
	mine := cores[slot*len(cores)/count : (slot+1)*len(cores)/count]
	var ids []int
	for nth, more := 0, true; more; nth++ {
		more = false
		for _, c := range mine {
			if nth < len(c) {
				ids, more = append(ids, c[nth].id), true
			}
		}
	}
	if len(ids) < threads {
		return nil, fmt.Errorf("%w: worker %d of %d has %d threads but %d of the processors that this process may use (%s);"+
			" lower the threads or the workers on this host, or do not pin", ErrPin, slot, count, threads, len(ids), list(all))
	}
	return ids[:threads], nil
}

// list writes processors as the system does: 0-3,8.
func list(all []processor) string {
	ids := make([]int, len(all))
	for i, p := range all {
		ids[i] = p.id
	}
	slices.Sort(ids)
	var parts []string
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && ids[n] == ids[0]+n {
			n++
		}
		part := strconv.Itoa(ids[0])
		if n > 1 {
			part += "-" + strconv.Itoa(ids[n-1])
		}
		parts, ids = append(parts, part), ids[n:]
	}
	return strings.Join(parts, ",")
}

// Pin keeps each of the pool's threads on a processor of its own, one of the first
// of cores. The goroutine that calls Pin is the one to call Run from then on; release
// gives its thread back, called from the same goroutine; the helpers stay where
// they are until Close. Pinning changes no result: it keeps the system from moving
// threads away from their caches and their memory. Where the system cannot pin, it
// does nothing.
//
// It fails, and pins nothing, when there are fewer cores than threads, when one is
// named twice or is none of those this process may use, when the pool is running,
// closed or pinned already, or when the system refuses.
func (p *Pool) Pin(cores []int) (release func(), err error) {
	all, err := allowed()
	if err != nil {
		return func() {}, fmt.Errorf("%w: %w", ErrPin, err)
	}
	if all == nil {
		return func() {}, nil
	}
	if err := p.checkCores(cores, all); err != nil {
		return func() {}, err
	}
	var guard sync.Mutex
	free, before := cores, map[int]affinity{} // by thread
	faults := p.each(func() error {
		guard.Lock()
		defer guard.Unlock()
		thread, old, err := lockTo(free[0])
		if err != nil {
			return fmt.Errorf("core %d: %w", free[0], err)
		}
		free = free[1:]
		before[thread] = old
		return nil
	})
	restore := func() error {
		guard.Lock()
		defer guard.Unlock()
		return unlock(before)
	}
	if faults != nil {
		return func() {}, fmt.Errorf("%w: %w", ErrPin, errors.Join(faults, p.each(restore)))
	}
	p.unpin = func() { _ = restore() } // to where the thread was before: nothing refuses it
	return p.unpin, nil
}

func (p *Pool) checkCores(cores []int, all []processor) error {
	switch {
	case p.busy.Load():
		return fmt.Errorf("%w: the pool is running or closed", ErrPin)
	case p.unpin != nil:
		return fmt.Errorf("%w: the pool is pinned already", ErrPin)
	case len(cores) < p.threads:
		return fmt.Errorf("%w: %d cores for %d threads", ErrPin, len(cores), p.threads)
	}
	for i, c := range cores[:p.threads] {
		if slices.Contains(cores[:i], c) {
			return fmt.Errorf("%w: core %d is named twice", ErrPin, c)
		}
		if !slices.ContainsFunc(all, func(q processor) bool { return q.id == c }) {
			return fmt.Errorf("%w: core %d is none of those that this process may use (%s)", ErrPin, c, list(all))
		}
	}
	return nil
}

// each calls f once on every thread: they wait for each other.
func (p *Pool) each(f func() error) error {
	faults := make([]error, p.threads)
	var here sync.WaitGroup
	here.Add(p.threads)
	p.Run(p.threads, func(i int) {
		faults[i] = f()
		here.Done()
		here.Wait()
	})
	return errors.Join(faults...)
}
