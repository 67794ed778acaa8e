package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/checkpoint/mirror"
	"github.com/agrdist/agrdist/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// memory is a bucket in memory. before sees each request and may refuse it.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	aborts  int
	before  func(op, key string) error
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) ask(op, key string) error {
	if m.before != nil {
		if err := m.before(op, key); err != nil {
			return &mirror.Error{Place: m.String(), Op: op + " " + key, Err: err}
		}
	}
	return nil
}

func (m *memory) Put(ctx context.Context, key, path string) error {
	if err := m.ask("store", key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = text
	return nil
}

func (m *memory) Get(_ context.Context, key string) (io.ReadCloser, error) {
	if err := m.ask("read", key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.objects[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(text)), nil
}

func (m *memory) List(_ context.Context, prefix string) (out []mirror.Object, err error) {
	if err := m.ask("list", prefix); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.objects {
		if strings.HasPrefix(k, prefix) {
			out = append(out, mirror.Object{Key: k, Size: int64(len(v))})
		}
	}
	return out, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	if err := m.ask("remove", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memory) Abort(context.Context) error { m.aborts++; return nil }

func (m *memory) String() string { return "mem://b/p" }

func (m *memory) keys() []string { return slices.Sorted(maps.Keys(m.objects)) }

// state is a small state; salt makes another history.
func state(step int64, salt float32) *checkpoint.Snapshot {
	v := func(name string, x float32) []checkpoint.Tensor {
		return []checkpoint.Tensor{{Name: name, Shape: []int{3}, Data: []float32{x, float32(step), salt}}}
	}
	return &checkpoint.Snapshot{
		Step: step, Updates: step, Seed: 7, ConfigHash: "h", Config: []byte("seed: 7\n"), UNetConfig: []byte("{}"), SchedulerConfig: []byte("{}"),
		Model: v("w", 1), EMA: v("w", 2), Optimizer: v("m.w", 3),
	}
}

func open(t *testing.T) *checkpoint.Store {
	t.Helper()
	return checkpoint.Open(filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{})
}

func save(t *testing.T, s *checkpoint.Store, step int64, salt float32) string {
	t.Helper()
	info, err := s.Save(t.Context(), state(step, salt))
	require.NoError(t, err)
	return info.Path
}

// copies returns a bucket that has the checkpoints of steps 10 and 20.
func copies(t *testing.T) *memory {
	t.Helper()
	b := newMemory()
	b.objects = maps.Clone(twoSteps(t))
	return b
}

var kept struct {
	sync.Once
	objects map[string][]byte
}

func twoSteps(t *testing.T) map[string][]byte {
	t.Helper()
	kept.Do(func() {
		b, s := newMemory(), open(t)
		for _, step := range []int64{10, 20} {
			require.NoError(t, mirror.New(b, mirror.Options{}).Push(t.Context(), save(t, s, step, 0)))
		}
		kept.objects = b.objects
	})
	return kept.objects
}

// requireRestored restores into a new store, and requires the state of a step.
func requireRestored(t *testing.T, m *mirror.Mirror, step int64, salt float32) []checkpoint.Skipped {
	t.Helper()
	s := open(t)
	info, ok, skipped, err := m.Restore(t.Context(), s, -1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, step, info.Step)
	snap, _, _, err := s.Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, state(step, salt).Model, snap.Model)
	require.Equal(t, state(step, salt).Optimizer, snap.Optimizer)
	return skipped
}

func TestPushAndRestore(t *testing.T) {
	b, s := newMemory(), open(t)
	m := mirror.New(b, mirror.Options{})
	_, ok, _, err := m.Restore(t.Context(), s, -1)
	require.NoError(t, err)
	require.False(t, ok, "an empty bucket is a fresh start")

	require.NoError(t, m.Push(t.Context(), save(t, s, 10, 0)))
	require.NoError(t, m.Push(t.Context(), save(t, s, 20, 0)))
	requireRestored(t, m, 20, 0)
	_, ok, _, err = m.Restore(t.Context(), open(t), 20)
	require.NoError(t, err)
	require.False(t, ok, "nothing later than what is here")
	require.Contains(t, b.keys(), "step-20/manifest.json")

	puts := 0
	b.before = func(op, _ string) error {
		if op == "store" {
			puts++
		}
		return nil
	}
	require.NoError(t, m.Push(t.Context(), filepath.Join(s.Dir(), "step-20")))
	require.Zero(t, puts, "it is there already")
}

// An upload that ends before any of its requests leaves no checkpoint of that step, and
// the one before is still there.
func TestPushCutAnywhere(t *testing.T) {
	cut := errors.New("cut")
	s := open(t)
	d10, d20 := save(t, s, 10, 0), save(t, s, 20, 0)
	for n := 0; ; n++ {
		b := newMemory()
		m := mirror.New(b, mirror.Options{Keep: 1})
		require.NoError(t, m.Push(t.Context(), d10))
		left := n
		b.before = func(op, _ string) error {
			if op == "list" {
				return nil
			}
			if left--; left < 0 {
				return cut
			}
			return nil
		}
		err := m.Push(t.Context(), d20)
		b.before = nil
		if err == nil && left > 0 {
			require.Greater(t, n, 7, "every file is a request")
			break
		}
		if err != nil {
			require.ErrorIs(t, err, cut)
			require.Empty(t, requireRestored(t, m, 10, 0), "not even a damaged one")
		} else {
			requireRestored(t, m, 20, 0) // only the removal of step 10 was cut
		}
		require.NoError(t, m.Push(t.Context(), d20), "the next try")
		requireRestored(t, m, 20, 0)
	}
}

// Another history of a step replaces the first one: at no time a mixture of both passes
// for a checkpoint.
func TestPushReplacesAnotherHistory(t *testing.T) {
	first, dir := save(t, open(t), 20, 1), save(t, open(t), 20, 2)
	for n := range 9 {
		b := newMemory()
		m := mirror.New(b, mirror.Options{})
		require.NoError(t, m.Push(t.Context(), first))
		left := n
		b.before = func(op, _ string) error {
			if left--; left < 0 && op != "list" {
				return errors.New("cut")
			}
			return nil
		}
		err := m.Push(t.Context(), dir)
		b.before = nil
		if err != nil {
			if _, ok, skipped, err := m.Restore(t.Context(), open(t), -1); ok || len(skipped) > 0 {
				require.NoError(t, err)
				requireRestored(t, m, 20, 1) // nothing was touched yet
			}
			require.NoError(t, m.Push(t.Context(), dir))
		}
		requireRestored(t, m, 20, 2)
	}
}

func TestRestorePassesOverTheDamaged(t *testing.T) {
	for _, file := range []string{"manifest.json", "model.safetensors", "optimizer.safetensors", "config.yaml"} {
		for what, damage := range map[string]func([]byte) []byte{
			"changed": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-2] ^= 4; return b },
			"torn":    func(b []byte) []byte { return b[:len(b)/2] },
			"longer":  func(b []byte) []byte { return append(bytes.Clone(b), ' ') },
			"empty":   func([]byte) []byte { return nil },
			"missing": nil,
		} {
			t.Run(file+" "+what, func(t *testing.T) {
				b := copies(t)
				m := mirror.New(b, mirror.Options{})
				if damage == nil {
					delete(b.objects, "step-20/"+file)
				} else {
					b.objects["step-20/"+file] = damage(b.objects["step-20/"+file])
				}
				skipped := requireRestored(t, m, 10, 0)
				if file == "manifest.json" && damage == nil {
					require.Empty(t, skipped, "it is no checkpoint")
					return
				}
				require.Len(t, skipped, 1)
				require.Equal(t, "mem://b/p/step-20", skipped[0].Path)
				delete(b.objects, "step-10/manifest.json")
				dir := open(t)
				_, _, _, err := m.Restore(t.Context(), dir, -1)
				var none *checkpoint.NoneValidError
				require.ErrorAs(t, err, &none, "never mistaken for a fresh start")
				infos, bad, err := dir.List()
				require.NoError(t, err)
				require.Empty(t, infos)
				require.Empty(t, bad)
			})
		}
	}
}

// What the object store refuses is no damage: nothing is passed over for it.
func TestRestoreStopsWhereTheBucketRefuses(t *testing.T) {
	b := copies(t)
	m := mirror.New(b, mirror.Options{})
	b.before = func(_, key string) error {
		if key == "step-20/ema.safetensors" {
			return errors.New("503")
		}
		return nil
	}
	_, ok, skipped, err := m.Restore(t.Context(), open(t), -1)
	var remote *mirror.Error
	require.ErrorAs(t, err, &remote)
	require.False(t, ok)
	require.Empty(t, skipped)
}

func TestRetention(t *testing.T) {
	b, s := newMemory(), open(t)
	m := mirror.New(b, mirror.Options{Keep: 2, Pinned: func(step int64) bool { return step == 10 }})
	b.objects["notes.txt"] = nil
	b.objects["step-5/model.safetensors"] = nil // an upload that was killed
	b.objects["step-99/manifest.json"] = nil    // of another history
	b.objects["step-7/sub/file"] = nil          // not ours
	for _, step := range []int64{10, 20, 30, 40} {
		require.NoError(t, m.Push(t.Context(), save(t, s, step, 0)))
	}
	steps, err := m.Steps(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{99, 40, 30, 10}, steps)
	for _, key := range b.keys() {
		require.NotContains(t, key, "step-5/")
		require.NotContains(t, key, "step-20/")
	}
	require.Contains(t, b.objects, "notes.txt")
	require.Contains(t, b.objects, "step-7/sub/file")
}

func TestPushOfWhatIsGone(t *testing.T) {
	s := open(t)
	dir := save(t, s, 10, 0)
	require.NoError(t, os.Remove(filepath.Join(dir, "ema.safetensors")))
	require.ErrorIs(t, mirror.New(newMemory(), mirror.Options{}).Push(t.Context(), dir), mirror.ErrGone)
	require.NoError(t, os.RemoveAll(dir))
	require.ErrorIs(t, mirror.New(newMemory(), mirror.Options{}).Push(t.Context(), dir), mirror.ErrGone)
}

// A checkpoint that somebody copied under another step's name is not believed.
func TestRestoreOfAnotherName(t *testing.T) {
	b := copies(t)
	for key, text := range twoSteps(t) {
		if rest, ok := strings.CutPrefix(key, "step-20/"); ok {
			b.objects["step-30/"+rest] = text
		}
	}
	skipped := requireRestored(t, mirror.New(b, mirror.Options{}), 20, 0)
	require.Len(t, skipped, 1)
	require.ErrorContains(t, skipped[0].Reason, "is of step 20, not of step 30")
}
