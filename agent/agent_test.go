package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/coordinator"
	"github.com/agrdist/agrdist/cluster/membership"
	"github.com/agrdist/agrdist/cluster/node"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/worker/spec"
)

var discard = slog.New(slog.DiscardHandler)

// rest lets the agent do everything that is due within d.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func holder(name, addr string, term uint64) membership.Node {
	return membership.Node{Name: name + "-1", Meta: membership.Meta{Node: name, CoordinatorAddr: addr, CoordinatorTerm: term}}
}

// From joining to the end, with a crash in between: what the machine says is
// carried out, and what the world says reaches the machine.
func TestWholeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		rest(time.Second)
		require.Empty(t, w.took(), "nobody admitted it yet")

		w.sees(holder("n0", "10.0.0.1:70", 5))
		rest(time.Second)
		addr, err := spec.Spec{Coordinator: w.agent.signpost.path}.FindCoordinator(t.Context())
		require.NoError(t, err)
		require.Equal(t, "10.0.0.1:70", addr, "the workers' way to the coordinator")
		w.admit <- nil
		rest(time.Second)
		require.Equal(t, []string{"start 0: <nil>", "start 1: <nil>"}, w.took())

		w.set(func() { w.verdict = cluster.Verdict{Restart: true, After: 3 * time.Second} })
		w.dies(1, supervise.Exit{Code: 2, LastWords: []string{"...", "agrdist: out of luck"}})
		rest(time.Second)
		require.Equal(t, []string{
			"notice: worker-1 exited with code 2 after 0s", "report n1/1 exited with code 2: out of luck",
		}, w.took())
		first := w.member(1)
		rest(3 * time.Second)
		require.Equal(t, []string{"start 1: <nil>"}, w.took())
		require.NotEqual(t, first, w.member(1), "every incarnation has an id of its own")

		w.kills <- cluster.Kill{Reason: "it hung", Member: cluster.Member{ID: w.member(1), Node: "n1", Slot: 1}}
		w.set(func() { w.verdict, w.status.Step = cluster.Verdict{}, 7 })
		rest(time.Second)
		require.Equal(t, []string{
			"notice: killing n1/1: it hung", "kill 1", "report n1/1 was killed by SIGKILL", "watch: step 7",
		}, w.took())

		w.sees(holder("n0", "10.0.0.1:70", 5), holder("n2", "10.0.0.3:70", 6))
		rest(time.Second)
		addr, err = spec.Spec{Coordinator: w.agent.signpost.path}.FindCoordinator(t.Context())
		require.NoError(t, err)
		require.Equal(t, "10.0.0.3:70", addr, "the coordinator has moved")

		w.over(&coordinator.EndError{End: cluster.End{Outcome: cluster.OutcomeFinished, Step: 9}})
		rest(time.Second)
		w.dies(0, supervise.Exit{})
		<-w.ended
		require.NoError(t, w.endErr)
		require.Equal(t, cluster.End{Outcome: cluster.OutcomeFinished, Step: 9}, w.end)
		require.Equal(t, []string{"watch: step 7", "announce finished", "watch: step 7", "leave"}, w.took(), "the last look comes before the end")
		require.NoFileExists(t, filepath.Join(w.agent.cfg.RunDir, "coordinator-n1.addr"))
	})
}

// The first node holds the coordinator and leaves only after it has told all.
func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		w.admit <- nil
		rest(time.Second)
		require.ElementsMatch(t, []string{"serve", "start 0: <nil>", "start 1: <nil>"}, w.took())
		w.over(&coordinator.EndError{End: cluster.End{Outcome: cluster.OutcomeFailed, ExitCode: 1}})
		rest(time.Second)
		require.Equal(t, []string{"announce failed", "terminated to 0", "terminated to 1"}, w.took())
		w.dies(0, supervise.Exit{Code: 1})
		rest(time.Minute)
		require.Equal(t, []string{"kill 1"}, w.took(), "no patience without end")
		select {
		case <-w.ended:
			t.Fatal("it left before its coordinator did")
		default:
		}
		w.serve <- nil
		<-w.ended
		require.NoError(t, w.endErr)
		require.Equal(t, cluster.OutcomeFailed, w.end.Outcome)
	})
}

// A machine that cannot start a worker does not end this node's part.
func TestStartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		w.startErr = syscall.EAGAIN
		w.admit <- nil
		rest(500 * time.Millisecond)
		require.Len(t, w.took(), 4, "two tries, told once each")
		rest(50 * time.Second)
		for _, line := range w.took() {
			require.Contains(t, line, "start ", "told once")
		}
		w.set(func() { w.startErr = nil })
		rest(30 * time.Second)
		require.Len(t, w.agent.workers.Running(), 2)
	})
}

func TestSignals(t *testing.T) {
	t.Run("before the run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := begin(t, "cluster.join=[10.0.0.1:7946]")
			w.stop <- os.Interrupt
			<-w.ended
			var early *SignalError
			require.ErrorAs(t, w.endErr, &early)
			require.ErrorContains(t, w.endErr, "SIGINT")
		})
	})
	t.Run("once and twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := begin(t, "cluster.join=[10.0.0.1:7946]", "cluster.nodes=2")
			w.admit <- nil
			rest(time.Second)
			w.took()
			w.stop <- syscall.SIGTERM
			rest(time.Second)
			require.ElementsMatch(t, []string{"request stop: SIGTERM on n1", "terminated to 0", "terminated to 1"}, w.took())
			w.stop <- syscall.SIGTERM
			<-w.ended
			require.ErrorContains(t, w.endErr, "second signal")
			require.Equal(t, []string{"kill 0", "kill 1", "leave"}, w.took(), "nothing is left behind")
		})
	})
}

// SIGTERM takes one node out of an elastic run.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		w.admit <- nil
		rest(time.Second)
		w.took()
		w.stop <- syscall.SIGTERM
		rest(time.Second)
		require.Equal(t, []string{"drain"}, w.took())
		close(w.drained)
		<-w.ended
		var left *LeftError
		require.ErrorAs(t, w.endErr, &left)
		did := w.took()
		require.ElementsMatch(t, []string{
			"kill 0", "kill 1", "report n1/0 was killed by SIGKILL", "report n1/1 was killed by SIGKILL", "leave",
		}, did)
		require.Equal(t, "leave", did[4], "the deaths are certified before it goes")
	})
}

func TestNobodyFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]", "cluster.start_timeout=1m")
		<-w.ended
		require.ErrorIs(t, w.endErr, node.ErrNoCoordinator)
		require.ErrorContains(t, w.endErr, "within 1m0s (cluster.start_timeout)")
		require.ErrorContains(t, w.endErr, "seed 10.0.0.9:7946 (no answer)", "whom it waited for")
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		w.admit <- cluster.ErrMismatch
		<-w.ended
		require.ErrorIs(t, w.endErr, cluster.ErrMismatch)
	})
}

func TestSessionClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		w.admit <- nil
		rest(time.Second)
		w.over(errors.New("evicted"))
		<-w.ended
		require.ErrorContains(t, w.endErr, "lost the coordinator for good: evicted")
	})
}

// A node takes the settings of the run it joins, for its workers too, and is sent away
// if it was given others.
func TestConfigurationOfTheRun(t *testing.T) {
	coordinators := func(t *testing.T, set ...string) *config.Config {
		t.Helper()
		c, err := config.Load(config.Source{Set: append([]string{"cluster.nodes=1:2", "cluster.workers=2", "out=elsewhere"}, set...)})
		require.NoError(t, err)
		return c
	}
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]", "seed=42", "out=here")
		w.run = coordinators(t, "train.steps=7")
		w.admit <- nil
		rest(time.Second)
		require.Equal(t, []string{"adopted: 7 steps on 2 workers", "start 0: <nil>", "start 1: <nil>"}, w.took())
		require.EqualValues(t, 7, w.agent.cfg.Run.Train.Steps)
		require.Equal(t, "here", w.agent.cfg.Run.Out)
	})
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]", "train.steps=8", "lr.base=1", "train.threads=3")
		w.run = coordinators(t, "train.steps=7", "train.threads=1")
		w.admit <- nil
		<-w.ended
		require.EqualError(t, w.endErr, "node n1: it was given other settings than the run has: train.steps is 8 here and 7 in the run; "+
			"lr.base is 1 here and 0.004 in the run; leave them out (a node takes the run's) or make them equal")
		var bad *config.Error
		require.ErrorAs(t, w.endErr, &bad, "no retry fixes it")
		require.NotContains(t, w.took(), "start 0: <nil>")
	})
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, "cluster.join=[10.0.0.1:7946]")
		w.run, w.adopted = coordinators(t, "data.flip=true"), errors.New("its images are missing")
		w.admit <- nil
		<-w.ended
		require.EqualError(t, w.endErr, "its images are missing")
	})
}
