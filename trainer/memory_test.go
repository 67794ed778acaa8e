package trainer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// heldIn makes the file that an agent holds.
func heldIn(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "state"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// dies trains on two nodes until all workers die at once after a step, with a copy in
// the agents' memories every two steps.
func dies(t *testing.T, cfg Config, after int64, files []*os.File, store Store) (last int64) {
	t.Helper()
	w := newWorld(t, cfg.Chunks())
	var ranks []*rank
	for i, f := range files {
		r := w.add(cfg, func(_ *Config, p *Parts) { p.Memory, p.Store = NewMemory(f), store })
		r.member.Node = []string{"n0", "n1"}[i]
		ranks = append(ranks, r)
	}
	dead := make(chan struct{})
	atStep(ranks[0], after, func() {
		for _, r := range ranks {
			r.cancel()
		}
		close(dead)
	})
	w.form(ranks...)
	<-dead
	w.wait(ranks...)
	told := ranks[0].told()
	return told[len(told)-1]
}

// again continues with new processes on the same nodes.
func again(t *testing.T, cfg Config, files []*os.File, store Store) *rank {
	t.Helper()
	w := newWorld(t, cfg.Chunks())
	var ranks []*rank
	for i, f := range files {
		r := w.add(cfg, func(_ *Config, p *Parts) { p.Memory, p.Store = NewMemory(f), store })
		r.member.Node = []string{"n0", "n1"}[i]
		ranks = append(ranks, r)
	}
	w.form(ranks...)
	w.wait(ranks...)
	for _, r := range ranks {
		require.NoError(t, r.err)
	}
	return ranks[0]
}

// All workers of a run die at once, but not their agents: it continues from the newest
// state in an agent's memory, less than K steps back, and ends with the same bits.
func TestMemoryOutlivesTheWorkers(t *testing.T) {
	cfg := smallConfig(30)
	cfg.MemoryEvery = 2
	want := runs(t, 1, cfg)
	files := []*os.File{heldIn(t), heldIn(t)}
	last := dies(t, cfg, 7, files, nil)
	r := again(t, cfg, files, nil)
	require.Equal(t, want, r.digest)
	// The copy of the last even step may not have been whole.
	require.GreaterOrEqual(t, r.told()[0], last-2*cfg.MemoryEvery)
	require.LessOrEqual(t, r.told()[0], last+1)
	require.Greater(t, r.told()[0], int64(1), "it did not begin again")
}

// A node whose agent holds nothing, or something damaged, takes the state from one that
// holds it; a newer checkpoint counts for more.
func TestMemoryThatIsGoneOrOld(t *testing.T) {
	cfg := smallConfig(30)
	cfg.MemoryEvery = 2
	want := runs(t, 1, cfg)

	files := []*os.File{heldIn(t), heldIn(t)}
	last := dies(t, cfg, 7, files, nil)
	r := again(t, cfg, []*os.File{heldIn(t), files[1]}, nil)
	require.Equal(t, want, r.digest)
	require.GreaterOrEqual(t, r.told()[0], last-2*cfg.MemoryEvery)

	files = []*os.File{heldIn(t), heldIn(t)}
	store := &memory{}
	cfg.CheckpointEvery = 5
	last = dies(t, cfg, 7, files, store)
	require.EqualValues(t, 5, store.NewestStep())
	for _, f := range files { // a bit of every value's lowest byte, in both copies
		info, err := f.Stat()
		require.NoError(t, err)
		b := make([]byte, info.Size())
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
		for at := 3 * memoryPage; at < len(b); at += memoryPage {
			b[at] ^= 1
		}
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
	}
	r = again(t, cfg, files, store)
	require.Equal(t, want, r.digest)
	require.EqualValues(t, 6, r.told()[0], "from the checkpoint: step %d was the last", last)

	files = []*os.File{heldIn(t), heldIn(t)}
	store = &memory{}
	cfg.CheckpointEvery, cfg.MemoryEvery = 1, 4
	last = dies(t, cfg, 7, files, store)
	newest := store.NewestStep()
	require.GreaterOrEqual(t, newest, last-1)
	r = again(t, cfg, files, store)
	require.Equal(t, want, r.digest)
	require.Equal(t, newest+1, r.told()[0])
}

// Two copies alternate, so that one is whole while the other is written.
func TestMemoryKeepsTheCopyBefore(t *testing.T) {
	cfg := smallConfig(4)
	w := newWorld(t, cfg.Chunks())
	a := w.add(cfg)
	w.form(a)
	w.wait(a)
	s := a.trainer.State()
	f := heldIn(t)
	m := NewMemory(f)
	s.lineage = []mark{{2, [16]byte{9}}}
	for step := range int64(5) {
		s.Step = step + 10
		require.NoError(t, m.Keep(s))
	}
	m.Wait()
	n := valuesOf(s)
	_, err := f.WriteAt([]byte{1, 2, 3}, m.place(0, n)+memoryPage+4*n-8) // step 14 went to copy 0
	require.NoError(t, err)
	s.lineage = nil
	found, err := NewMemory(f).Restore(s, 5)
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 13, s.Step)
	require.Equal(t, []mark{{2, [16]byte{9}}}, s.lineage)
	found, err = NewMemory(f).Restore(s, 13)
	require.ErrorContains(t, err, "the copy of step 14 in memory is damaged")
	require.False(t, found)
	found, err = NewMemory(heldIn(t)).Restore(s, -1)
	require.NoError(t, err)
	require.False(t, found)
}

func FuzzHeld(f *testing.F) {
	f.Add(held{step: 5, updates: 4, inARow: 1, values: 99, digest: [16]byte{7}, lineage: []mark{{3, [16]byte{1}}, {4, [16]byte{2}}}}.bytes())
	f.Add(make([]byte, memoryHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parseHeld(b); ok {
			require.Equal(t, b, h.bytes())
		}
	})
}

func TestHeldSurvivesItsHeader(t *testing.T) {
	want := held{step: 5, updates: 4, inARow: 1, values: 99, digest: [16]byte{7}, lineage: []mark{{3, [16]byte{1}}, {4, [16]byte{2}}}}
	b := want.bytes()
	got, ok := parseHeld(b)
	require.True(t, ok)
	require.Equal(t, want, got)
	for i := range b {
		b[i] ^= 4
		_, ok := parseHeld(b)
		require.False(t, ok, "byte %d", i)
		b[i] ^= 4
	}
}
