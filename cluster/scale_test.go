package cluster

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// heartbeat is how often a worker speaks when nothing changes (coordinator.Client).
const heartbeat = 500 * time.Millisecond

// fleet is a machine with n workers, 8 a node.
type fleet struct {
	m       *Machine
	now     time.Time
	members []Member
	formed  Generation
}

func newFleet(tb testing.TB, n int) *fleet {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.RunID, cfg.ConfigHash, cfg.Build = "run", "c0ffee", "v1"
	cfg.MinWorkers, cfg.MaxWorkers, cfg.MaxRestarts = n, n, -1
	m, err := New(cfg, epoch)
	require.NoError(tb, err)
	f := &fleet{m: m, now: epoch}
	for i := range n {
		f.members = append(f.members, f.member(i, 0))
	}
	for i := 0; i < n; i += 8 {
		f.step(AgentJoined{Node: f.members[i].Node, Slots: min(8, n-i), Host: f.members[i].Host})
	}
	return f
}

func (f *fleet) member(i, incarnation int) Member {
	return Member{
		ID: MemberID(fmt.Sprintf("node-%04d-%d-%08d", i/8, i%8, incarnation)), Node: fmt.Sprintf("node-%04d", i/8), Slot: i % 8,
		DataAddr: fmt.Sprintf("10.%d.%d.%d:29500", i>>16&255, i>>8&255, i&255), Host: fmt.Sprintf("host-%04d", i/8),
		RunID: "run", ConfigHash: "c0ffee", Build: "v1", PID: 1000 + i,
	}
}

func (f *fleet) step(events ...Event) []Action {
	actions := f.m.Step(f.now, append(events, Tick{})...)
	for _, a := range actions {
		if g, is := a.(Form); is {
			f.formed = g.Generation
		}
	}
	return actions
}

func (f *fleet) register() {
	for _, w := range f.members {
		f.step(WorkerJoined{Member: w, Report: Report{Step: -1, Phase: PhaseInit}})
	}
}

// report is what a worker says in the middle of training.
func (f *fleet) report(i int, step int64) Reported {
	g := f.formed.Number
	return Reported{Report{Member: f.members[i].ID, Generation: g, Step: step, CommitGeneration: g, HasState: true, Phase: PhaseForward}}
}

// train lets every worker report a step.
func (f *fleet) train(step int64) {
	for i := range f.members {
		f.step(f.report(i, step))
	}
}

// crash certifies the deaths of workers, and puts another incarnation in place of each.
func (f *fleet) crash(incarnation int, workers ...int) {
	var exits []Event
	for _, i := range workers {
		exits = append(exits, WorkerExited{Exit: Exit{Member: f.members[i].ID, Node: f.members[i].Node, Slot: f.members[i].Slot, Signal: "SIGKILL"}})
		f.members[i] = f.member(i, incarnation)
	}
	f.step(exits...)
}

var sizes = []int{64, 1000, 10000}

// meter is the processor time of what it ran, garbage collection included: unlike the
// time that passes, it is not that of others on a busy machine.
type meter struct{ spent time.Duration }

func (m *meter) run(f func()) {
	before := processorTime()
	f()
	m.spent += processorTime() - before
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func eachSize(b *testing.B, run func(b *testing.B, n int, cpu *meter)) {
	b.Helper()
	for _, n := range sizes {
		b.Run(fmt.Sprintf("workers=%d", n), func(b *testing.B) { run(b, n, &meter{}) })
	}
}

// The registrations of all the workers of a run, each a decision; the last one forms the
// generation.
func BenchmarkRegistration(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, cpu *meter) {
		b.Helper()
		for b.Loop() {
			f := newFleet(b, n)
			cpu.run(f.register)
			require.Len(b, f.formed.Members, n)
		}
		b.ReportMetric(float64(cpu.spent.Microseconds())/float64(b.N*n), "cpu-µs/registration")
	})
}

// One heartbeat, each in a step of its own: batches cost less. The share is what of a
// core the heartbeats of all workers take.
func BenchmarkHeartbeat(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, cpu *meter) {
		b.Helper()
		f := newFleet(b, n)
		f.register()
		f.train(1)
		i := 0
		for b.Loop() {
			cpu.run(func() {
				for range 1000 {
					f.now = f.now.Add(heartbeat / time.Duration(n))
					f.step(f.report(i%n, 1+int64(i/n)))
					i++
				}
			})
		}
		each := cpu.spent.Seconds() / float64(1000*b.N)
		b.ReportMetric(each*1e6, "cpu-µs/heartbeat")
		b.ReportMetric(each*float64(n)/heartbeat.Seconds(), "cores")
	})
}

// The decision that follows a worker's death: a generation without it.
func BenchmarkLoss(b *testing.B) { benchmarkChange(b, true) }

// The decision that takes a worker in: a generation of all.
func BenchmarkGeneration(b *testing.B) { benchmarkChange(b, false) }

func benchmarkChange(b *testing.B, loss bool) {
	b.Helper()
	eachSize(b, func(b *testing.B, n int, cpu *meter) {
		b.Helper()
		f := newFleet(b, n)
		f.register()
		step, i := int64(1), 0
		lost, joined := &meter{}, cpu
		if loss {
			lost, joined = cpu, lost
		}
		for b.Loop() {
			i++
			f.train(step)
			lost.run(func() { f.crash(i, i%n) })
			require.Len(b, f.formed.Members, n-1)
			f.train(step + 1)
			step += 2
			f.step(WorkerJoined{Member: f.members[i%n], Report: Report{Step: -1, Phase: PhaseInit}})
			f.now = f.now.Add(f.m.cfg.JoinDebounce)
			joined.run(func() { f.step() })
			require.Len(b, f.formed.Members, n)
		}
		b.ReportMetric(float64(cpu.spent.Microseconds())/1000/float64(b.N), "cpu-ms/decision")
	})
}

// What the machine holds, of the workers and the generations.
func BenchmarkMemory(b *testing.B) {
	eachSize(b, func(b *testing.B, n int, _ *meter) {
		b.Helper()
		for b.Loop() {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			f := newFleet(b, n)
			f.register()
			f.train(1)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
			runtime.KeepAlive(f)
		}
	})
}

// A run of 10,000 workers begins, loses a node and gets it back, and what a heartbeat
// costs does not grow with the number of workers: a search through all of them would
// allocate.
func TestTenThousandWorkers(t *testing.T) {
	allocs := map[int]float64{}
	for _, n := range sizes {
		f := newFleet(t, n)
		f.register()
		require.Len(t, f.formed.Members, n, "all have registered")
		f.train(1)
		i := 0
		allocs[n] = testing.AllocsPerRun(n, func() {
			f.now = f.now.Add(heartbeat / time.Duration(n))
			f.step(f.report(i%n, 1+int64(i/n)))
			i++
		})
		f.crash(1, 8, 9, 10, 11, 12, 13, 14, 15) // a node dies, and comes back
		require.Len(t, f.formed.Members, n-8)
		f.train(5)
		lost := f.now
		for slot := range 8 {
			f.step(WorkerJoined{Member: f.members[8+slot], Report: Report{Step: -1, Phase: PhaseInit}})
		}
		for len(f.formed.Members) < n {
			f.now = f.now.Add(100 * time.Millisecond)
			f.step()
			require.Less(t, f.now.Sub(lost), 2*time.Second, "the node is not taken in again")
		}
	}
	require.InDelta(t, allocs[sizes[0]], allocs[sizes[len(sizes)-1]], 1, "allocations of a step with one heartbeat")
}
