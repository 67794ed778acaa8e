package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// requireReplicas requires that directories hold the same newest checkpoint, which
// verifies in each.
func requireReplicas(t *testing.T, dirs ...string) (step int64) {
	t.Helper()
	step, digest := newestOn(t, dirs[0])
	require.Positive(t, step)
	for _, dir := range dirs[1:] {
		n, d := newestOn(t, dir)
		require.Equal(t, step, n, dir)
		require.Equal(t, digest, d, dir)
	}
	return step
}

// A machine is lost for good, disk and all, whichever of the two it is: the same commands,
// that of the lost node in an empty directory, continue from the newest checkpoint, and
// the model is that of a run that nothing happened to.
func TestNodeLostWithItsDisk(t *testing.T) {
	for lost, name := range []string{"the first", "the second"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			secret := filepath.Join(root, "secret")
			require.NoError(t, os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"), 0o600))
			dirs := []string{filepath.Join(root, "one"), filepath.Join(root, "two")}
			port := freePort(t)
			command := func(i int, name string, more ...string) []string {
				return training(dirs[i], append([]string{
					"--nodes", "2", "--workers", "1", "--set", "train.steps=100000",
					"--set", "cluster.secret_file=" + secret, "--set", "cluster.node=" + name,
				}, more...)...)
			}
			commands := [][]string{
				command(0, "one", "--set", "cluster.gossip_port="+port),
				command(1, "two", "--join", "127.0.0.1:"+port),
			}
			a, b := start(t, commands[0]...), start(t, commands[1]...)
			a.await("a checkpoint on both nodes", func() bool {
				n, _ := newestOn(t, dirs[0])
				m, _ := newestOn(t, dirs[1])
				return n > 0 && m > 0
			})
			for _, p := range []*process{a, b} {
				p.signal(syscall.SIGKILL)
			}
			a.wait()
			b.wait()
			newest, _ := newestOn(t, dirs[1-lost])
			require.NoError(t, os.RemoveAll(dirs[lost]))

			a, b = start(t, commands[0]...), start(t, commands[1]...)
			both := []string{dirs[0], dirs[1]}
			resumed := func() (at int64) {
				at = -1
				for _, dir := range both {
					for _, e := range events(t, dir) {
						if e.Event == metrics.EventStart && e.ResumedAt != nil {
							at = *e.ResumedAt
						}
					}
				}
				return at
			}
			a.await("a resume", func() bool { return resumed() >= 0 })
			require.Equal(t, newest, resumed())
			a.await("a new checkpoint on the empty disk", func() bool {
				n, _ := newestOn(t, dirs[lost])
				return n > newest
			})
			a.signal(syscall.SIGINT)
			for _, p := range []*process{a, b} {
				p.ended(exitSignal)
				require.Contains(t, p.stderr.String(), "checkpoints (on nodes ", "where it was saved")
			}
			step := requireReplicas(t, dirs...)
			_, digest := newestOn(t, dirs[lost])
			requireAlone(t, step, digest)
		})
	}
}

// Two directories of one run whose histories differ (a ring sums in another order on
// another number of workers): a run that would begin from both is refused, though their
// newest checkpoints are of different steps.
func TestOtherHistoryIsRefused(t *testing.T) {
	t.Parallel()
	dirs := []string{filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")}
	ring := []string{"--set", "allreduce.order=ring"}
	run(t, training(dirs[0], append(ring, "--workers", "1", "--set", "train.steps=16")...)...).ended(exitOK)
	run(t, training(dirs[1], append(ring, "--workers", "3", "--set", "train.steps=24")...)...).ended(exitOK)
	a := start(t, training(dirs[0], append(ring, "--nodes", "2", "--workers", "1", "--set", "cluster.node=one")...)...)
	b := start(t, training(dirs[1], append(ring, "--nodes", "2", "--workers", "1", "--set", "cluster.node=two", "--join", a.says(`--join (\S+)`))...)...)
	for _, p := range []*process{a, b} {
		require.NotEqual(t, exitOK, p.wait())
	}
	require.Regexp(t, `node two's checkpoint of step 24 does not continue node one's of step 16: at that step its state was another one`, a.stderr.String())
	require.NotContains(t, a.stderr.String(), "finished")
}
