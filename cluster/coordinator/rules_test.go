package coordinator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster"
)

func TestStop(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		n := b.node("n1", 2)
		x, y := b.worker("x", "n1", 0), b.worker("y", "n1", 1)
		after(time.Second)
		commit(4, x, y)
		require.NoError(t, n.session.client.RequestStop(t.Context(), "SIGTERM on n1"))
		for _, w := range []*testWorker{x, y} {
			<-w.Stopping()
			w.say(func(r *cluster.Report) { r.Stopping = true })
		}
		<-n.session.Stopping()
		require.NoError(t, x.Leave(t.Context()))
		require.NoError(t, x.Err())
		require.NoError(t, y.Leave(t.Context()))
		require.NoError(t, b.outcome())
		<-n.session.Done()
		var end *EndError
		require.ErrorAs(t, n.session.Err(), &end)
		require.Equal(t, cluster.OutcomeStopped, end.End.Outcome)
		require.Equal(t, cluster.ExitStopped, end.End.ExitCode)
	})
}

// Exit code 42 fails the run, and everybody is told.
func TestBadConfiguration(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		n := b.node("n1", 2)
		x := b.worker("x", "n1", 0)
		e := cluster.Exit{Member: "y", Slot: 1, Code: cluster.ExitBadConfig, Message: "model.channels: must be positive"}
		v, err := n.session.ReportExit(t.Context(), e)
		require.NoError(t, err)
		require.False(t, v.Restart)
		var end *EndError
		require.ErrorAs(t, b.outcome(), &end)
		require.Equal(t, cluster.ExitBadConfig, end.End.ExitCode)
		require.ErrorContains(t, end, "model.channels: must be positive")
		<-x.Done()
		require.ErrorAs(t, x.Err(), &end)
		require.Equal(t, cluster.OutcomeFailed, end.End.Outcome)
	})
}

// A node that does not fit a run that trains already is sent away; the run goes on.
func TestStrangerDoesNotEndTheRun(t *testing.T) {
	inBubble(t, 1, func(b *bench) {
		t := b.t
		b.node("n1", 1)
		x := b.worker("x", "n1", 0)
		after(time.Second)
		commit(3, x)
		other := b.node("n2", 1)
		for _, code := range []int{cluster.ExitBadConfig, cluster.ExitFatal} {
			e := cluster.Exit{Member: cluster.MemberID(fmt.Sprint("y", code)), Node: "n2", Code: code, Message: "another seed"}
			v, err := other.session.ReportExit(t.Context(), e)
			require.NoError(t, err)
			require.False(t, v.Restart)
		}
		commit(6, x)
		after(5 * time.Second)
		require.NoError(t, x.Err())
	})
}

// Exit code 3 fails the run too, as a failure: no replacement is started.
func TestFatalExit(t *testing.T) {
	inBubble(t, 1, func(b *bench) {
		t := b.t
		n := b.node("n1", 1)
		v, err := n.session.ReportExit(t.Context(), cluster.Exit{Member: "y", Code: cluster.ExitFatal, Message: "no space left on device"})
		require.NoError(t, err)
		require.False(t, v.Restart)
		var end *EndError
		require.ErrorAs(t, b.outcome(), &end)
		require.Equal(t, cluster.ExitFailed, end.End.ExitCode)
		require.ErrorContains(t, end, "no space left on device")
	})
}

func TestRefusals(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		b.node("n1", 1)
		b.worker("x", "n1", 0)
		c := b.client(newWire(b.listener))

		other := b.member("y", "n2", 0)
		other.ConfigHash = "decaf"
		_, err := c.Join(t.Context(), other)
		require.ErrorIs(t, err, cluster.ErrMismatch)
		require.ErrorContains(t, err, `"decaf"`)
		require.ErrorContains(t, err, `"c0ffee"`)

		_, err = c.Join(t.Context(), b.member("x", "n2", 0))
		require.ErrorIs(t, err, cluster.ErrMismatch, "a member id of another node")

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = c.Join(ctx, b.member("x2", "n1", 0))
		require.ErrorIs(t, err, cluster.ErrSlotTaken)
		require.ErrorIs(t, err, context.DeadlineExceeded, "it is tried again until then")
		_, err = c.Supervise(ctx, Node{Name: "n1", Slots: 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)

		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = c.Supervise(ctx, Node{Name: "n1", Slots: 1})
		require.ErrorIs(t, err, cluster.ErrSlotTaken, "two nodes of one name")
		_, err = c.Supervise(t.Context(), Node{Name: "n2", Slots: 1, RunID: "other"})
		require.ErrorIs(t, err, cluster.ErrMismatch)

		s, err := c.Join(t.Context(), b.member("y", "n2", 0))
		require.NoError(t, err)
		err = s.Finish(t.Context(), cluster.Finish{Generation: 77, Step: 1})
		require.ErrorIs(t, err, cluster.ErrFenced)
		_, err = c.ReportExit(t.Context(), cluster.Exit{Member: "x", Node: "n2"})
		require.ErrorContains(t, err, `a worker of node "n1"`, "who may certify whose death")
	})
}

// A generation that nobody read is replaced by its successor.
func TestOnlyTheNewestGenerationIsDelivered(t *testing.T) {
	inBubble(t, 2, func(b *bench) {
		t := b.t
		n := b.node("n2", 1)
		slow, err := b.client(newWire(b.listener)).Join(t.Context(), b.member("x", "n1", 0))
		require.NoError(t, err)
		y := b.worker("y", "n2", 0)
		after(time.Second)
		y.wire.crash()
		y.wire.cut()
		_, err = n.session.ReportExit(t.Context(), exit(y, 1, ""))
		require.NoError(t, err)
		after(time.Second)
		require.Equal(t, "2: x", ids(<-slow.Generations()))
		require.Empty(t, slow.Generations())
		y.wire.heal()
	})
}

func TestClosedClient(t *testing.T) {
	inBubble(t, 1, func(b *bench) {
		t := b.t
		x := b.worker("x", "n1", 0)
		require.NoError(t, x.client.Close())
		<-x.Done()
		require.ErrorIs(t, x.Err(), ErrClosed)
		_, err := x.client.Join(t.Context(), x.member)
		require.ErrorIs(t, err, ErrClosed)
		_, err = x.client.Status(t.Context())
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestNoCoordinator(t *testing.T) {
	inBubble(t, 1, func(b *bench) {
		t := b.t
		b.halt()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := b.client(newWire(b.listener)).Join(ctx, b.member("x", "n1", 0))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "connection refused")
		require.ErrorContains(t, err, "worker n1/0 x")
	})
}
