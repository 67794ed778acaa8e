package coordinator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

func TestRunFromStartToFinish(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		n := b.node("n1", 3)
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n1", 1), b.worker("z", "n1", 2)
		after(time.Second)
		for _, w := range []*testWorker{x, y, z} {
			require.Equal(t, "1: x y z", ids(w.generation()))
			require.Equal(t, "host-n1", w.generation().Members[1].Host)
		}
		x.say(func(r *cluster.Report) { r.Loss, r.GradNorm, r.LR, r.ImagesPerSecond = 0.5, 2, 1e-3, 640 })
		commit(7, x, y, z)

		s, err := x.client.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, cluster.StateRunning, s.State)
		require.Equal(t, int64(7), s.Step)
		require.Equal(t, uint64(1), s.CommitGeneration)
		require.Equal(t, []float64{0.5, 2, 1e-3, 640}, []float64{s.Loss, s.GradNorm, s.LR, s.ImagesPerSecond})
		require.Len(t, s.Workers, 3)
		require.Equal(t, cluster.PhaseForward, s.Workers[2].Report.Phase)
		require.Equal(t, []cluster.AgentStatus{{Node: "n1", Slots: 3, Host: "host-n1", Connected: true}}, s.Agents)

		for _, w := range []*testWorker{x, y, z} {
			require.NoError(t, w.Finish(t.Context(), cluster.Finish{Step: 7, Digest: "d"}))
		}
		require.NoError(t, b.outcome())
		<-z.Done()
		<-n.session.Done()
		var end *EndError
		require.ErrorAs(t, z.Err(), &end)
		require.Equal(t, cluster.End{Outcome: cluster.OutcomeFinished, Reason: "step 7, the last, is done", Step: 7, Digest: "d"}, end.End)
		require.ErrorAs(t, n.session.Err(), &end)
		v, err := n.session.ReportExit(t.Context(), exit(x, 0, ""))
		require.NoError(t, err, "the coordinator is gone, the answer is known")
		require.False(t, v.Restart)
	})
}

// A certified death makes a generation at once, and its replacement another.
func TestCrash(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		n := b.node("n1", 3)
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n1", 1), b.worker("z", "n1", 2)
		after(time.Second)
		commit(4, x, y, z)

		began := time.Now()
		y.wire.crash()
		y.wire.cut() // a dead process does not dial again
		v, err := n.session.ReportExit(t.Context(), exit(y, 2, ""))
		require.NoError(t, err)
		require.True(t, v.Restart)
		require.Zero(t, v.After)
		synctest.Wait()
		require.Equal(t, "2: x z", ids(z.generation()))
		require.Equal(t, "lost n1/1 (pid 101): n1/1 exited with code 2", z.generation().Reason)
		require.Zero(t, time.Since(began), "no timer was waited for")

		again, err := n.session.ReportExit(t.Context(), exit(y, 2, ""))
		require.NoError(t, err)
		require.Equal(t, v, again)
		y2 := b.worker("y2", "n1", 1)
		after(time.Second)
		require.Equal(t, "3: x z y2", ids(y2.generation()))
		require.Equal(t, 1, b.status().Restarts)
		y.wire.heal()
	})
}

// Nobody certifies the death: the worker is lost when its time is up.
func TestCrashWithoutSupervisor(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n2", 0), b.worker("z", "n3", 0)
		after(time.Second)
		commit(4, x, y, z)
		y.wire.crash()
		y.wire.cut()
		after(1900 * time.Millisecond)
		require.Equal(t, "1: x y z", ids(x.generation()))
		after(300 * time.Millisecond)
		require.Equal(t, "2: x z", ids(x.generation()))
		y.wire.heal()
	})
}

// A worker that stalls while its heart beats is evicted, killed by its agent and
// certified.
func TestHang(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		n1, n2 := b.node("n1", 1), b.node("n2", 1)
		x, y := b.worker("x", "n1", 0), b.worker("y", "n2", 0)
		after(time.Second)
		for step := range int64(4) {
			time.Sleep(time.Second)
			commit(step, x, y)
		}
		y.say(func(r *cluster.Report) { r.Phase, r.Bucket = cluster.PhaseAllReduce, 2 })
		began := time.Now()
		k := <-n1.session.Kills()
		require.Equal(t, cluster.MemberID("x"), k.Member.ID)
		require.Equal(t, 100, k.Member.PID)
		require.Contains(t, k.Reason, "it hung, in forward after step 3")
		require.Contains(t, k.Reason, "n2/0")
		require.InDelta(t, 30, time.Since(began).Seconds(), 1, "min_step_deadline")
		<-x.Done()
		require.ErrorIs(t, x.Err(), cluster.ErrEvicted)
		synctest.Wait()
		require.Equal(t, cluster.StateWaiting, b.status().State, "half of the generation, without its lowest rank")
		require.Len(t, y.aborts, 1)

		v, err := n1.session.ReportExit(t.Context(), exit(x, 0, "SIGKILL"))
		require.NoError(t, err)
		require.True(t, v.Restart)
		synctest.Wait()
		require.Equal(t, "2: y", ids(y.generation()))
		require.Empty(t, n2.session.Kills())
	})
}

// A kill reaches an agent that was away when it was decided.
func TestKillWaitsForItsAgent(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		n1 := b.node("n1", 1)
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n2", 0), b.worker("z", "n3", 0)
		after(time.Second)
		commit(0, x, y, z)
		commit(1, x, y, z)
		for _, w := range []*testWorker{y, z} {
			w.say(func(r *cluster.Report) { r.Phase = cluster.PhaseBarrier })
		}
		n1.wire.crash()
		n1.wire.cut()
		<-x.Done()
		require.ErrorIs(t, x.Err(), cluster.ErrEvicted)
		require.Empty(t, n1.session.Kills())
		n1.wire.heal()
		require.Equal(t, cluster.MemberID("x"), (<-n1.session.Kills()).Member.ID)
	})
}

// A node is cut off and comes back: the others go on without it; its worker is
// taken in again as it is, and was never held up.
func TestPartition(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		x, y := b.worker("x", "n1", 0), b.worker("y", "n2", 0)
		n3, z := b.node("n3", 1), b.worker("z", "n3", 0)
		after(time.Second)
		commit(4, x, y, z)

		began := time.Now()
		n3.wire.cut()
		z.wire.cut()
		after(2400 * time.Millisecond)
		require.Equal(t, "1: x y z", ids(x.generation()))
		after(1300 * time.Millisecond)
		require.Equal(t, "2: x y", ids(x.generation()))
		for i := range 1000 {
			z.say(func(r *cluster.Report) { r.Bucket = i })
		}
		require.Less(t, time.Since(began), 4*time.Second, "Report never blocks")
		commit(5, x, y)
		after(20 * time.Second)
		require.NoError(t, z.Err(), "the session lasts")

		n3.wire.heal()
		z.wire.heal()
		after(3 * time.Second)
		require.Equal(t, "3: x y z", ids(z.generation()))
		require.Equal(t, uint64(1), z.aborts[0].Generation)
		require.Empty(t, n3.session.Kills())
		require.NoError(t, n3.session.Err())
	})
}

// The majority is cut off: the rest must not go on, and does as soon as it is
// back.
func TestMinorityWaits(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n2", 0), b.worker("z", "n3", 0)
		after(time.Second)
		commit(4, x, y, z)
		y.wire.cut()
		z.wire.cut()
		after(5 * time.Second)
		s := b.status()
		require.Equal(t, cluster.StateWaiting, s.State)
		require.Contains(t, s.Detail, "n2/0 (pid 100), n3/0 (pid 100)")
		require.Equal(t, uint64(1), x.aborts[0].Generation)
		y.wire.heal()
		after(3 * time.Second)
		require.Equal(t, "2: x y", ids(x.generation()))
		require.Equal(t, "2: x y", ids(y.generation()))
		z.wire.heal()
	})
}

// The coordinator dies and comes back: the workers train on, nobody is told
// anything, and numbers go on. With the journal and without.
func TestCoordinatorRestart(t *testing.T) {
	for name, journal := range map[string]bool{"with journal": true, "without journal": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(b *bench) {
				t := b.t
				x, y, z := b.worker("x", "n1", 0), b.worker("y", "n2", 0), b.worker("z", "n3", 0)
				after(time.Second)
				commit(4, x, y, z)
				b.halt()
				commit(9, x, y, z)
				after(15 * time.Second)
				for _, w := range []*testWorker{x, y, z} {
					require.NoError(t, w.Err())
				}
				if !journal {
					b.config.JournalPath = ""
				}
				b.start()
				after(2 * time.Second)
				s := b.status()
				require.Equal(t, cluster.StateRunning, s.State, s.Detail)
				require.Equal(t, "1: x y z", ids(s.Generation))
				require.Equal(t, int64(9), s.Step)
				for _, w := range []*testWorker{x, y, z} {
					require.Len(t, w.gens, 1, "no new generation")
					require.Empty(t, w.aborts)
				}
				z.wire.crash()
				z.wire.cut()
				after(3 * time.Second)
				require.Equal(t, "2: x y", ids(x.generation()))
				z.wire.heal()
			})
		})
	}
}

// A restarted coordinator misses a member: after RejoinTimeout the others form.
func TestCoordinatorRestartWithALoss(t *testing.T) {
	inBubble(t, 3, func(b *bench) {
		t := b.t
		x, y, z := b.worker("x", "n1", 0), b.worker("y", "n2", 0), b.worker("z", "n3", 0)
		after(time.Second)
		commit(4, x, y, z)
		b.halt()
		z.wire.crash()
		z.wire.cut()
		b.start()
		after(9 * time.Second)
		require.Equal(t, cluster.StateRecovering, b.status().State)
		after(2 * time.Second)
		require.Equal(t, "2: x y", ids(y.generation()))
		z.wire.heal()
	})
}

// A node leaves: its agent is told that it may, its workers' deaths are no crashes;
// the last node is told to stop instead. The wish is repeated over a new connection.
func TestDrain(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		b.halt()
		b.config.Cluster.MinWorkers = 1
		b.start()
		one, two := b.node("n1", 1), b.node("n2", 1)
		x, y := b.worker("x", "n1", 0), b.worker("y", "n2", 0)
		after(time.Second)
		one.session.Drain()
		synctest.Wait()
		select {
		case <-one.session.Drained():
		default:
			t.Fatal("nobody let it go")
		}
		x.wire.crash()
		x.wire.cut()
		v, err := one.session.ReportExit(t.Context(), exit(x, 0, "SIGKILL"))
		require.NoError(t, err)
		require.False(t, v.Restart)
		synctest.Wait()
		require.Contains(t, y.generation().Reason, "n1 left the run")
		two.session.Drain()
		synctest.Wait()
		select {
		case <-y.Stopping():
		default:
			t.Fatal("the last one must save")
		}
		x.wire.heal()
	})
}
