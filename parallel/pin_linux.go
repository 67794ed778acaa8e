package parallel

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// affinity is the processors that a thread may run on.
type affinity = unix.CPUSet

// allowed lists the processors that this process may use: those of its first thread
// at the first call, before that thread could be pinned.
var allowed = sync.OnceValues(func() ([]processor, error) {
	var mask unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &mask); err != nil {
		return nil, fmt.Errorf("processors that this process may use: %w", err)
	}
	var all []processor
	for id := range len(mask) * strconv.IntSize {
		if mask.IsSet(id) {
			all = append(all, locate(id))
		}
	}
	return all, nil
})

// locate finds a processor's core and memory node. What the system does not tell
// leaves each processor a core of its own, of node 0.
func locate(id int) processor {
	p := processor{id: id, core: id}
	dir := filepath.Join("/sys/devices/system/cpu", "cpu"+strconv.Itoa(id))
	if core, ok := number(filepath.Join(dir, "topology", "core_id")); ok {
		pkg, _ := number(filepath.Join(dir, "topology", "physical_package_id"))
		p.core = pkg<<16 | core
	}
	nodes, _ := filepath.Glob(filepath.Join(dir, "node[0-9]*")) // the pattern is well-formed
	if len(nodes) > 0 {
		p.node, _ = strconv.Atoi(strings.TrimPrefix(filepath.Base(nodes[0]), "node"))
	}
	return p
}

func number(file string) (int, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return n, err == nil && n >= 0
}

// lockTo binds the goroutine to its thread and the thread to a core. It returns
// the thread, and where it ran before.
func lockTo(core int) (thread int, before affinity, err error) {
	runtime.LockOSThread()
	thread = unix.Gettid()
	var mask unix.CPUSet
	mask.Set(core)
	if err = unix.SchedGetaffinity(thread, &before); err == nil {
		err = unix.SchedSetaffinity(thread, &mask)
	}
	if err != nil {
		runtime.UnlockOSThread()
	}
	return thread, before, err
}

// unlock undoes lockTo for the thread of the goroutine that calls, if it was bound.
func unlock(before map[int]affinity) error {
	thread := unix.Gettid()
	mask, ok := before[thread]
	if !ok {
		return nil
	}
	delete(before, thread)
	defer runtime.UnlockOSThread()
	return unix.SchedSetaffinity(thread, &mask)
}
