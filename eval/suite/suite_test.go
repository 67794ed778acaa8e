package suite

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/eval"
	"github.com/agrdist/agrdist/rng"
)

// noisy computes rows that are a function of the image's number; it fails from block
// limit on.
type noisy struct {
	computed *atomic.Int64
	limit    int
}

var errBroken = errors.New("out of order")

func (n noisy) Block(_ context.Context, lo, hi int) (features, logits []float32, err error) {
	if hi > n.limit {
		return nil, nil, errBroken
	}
	n.computed.Add(int64(hi - lo))
	features, logits = make([]float32, (hi-lo)*6), make([]float32, (hi-lo)*3)
	for i := lo; i < hi; i++ {
		rng.New(1, rng.StreamNoise).Normal(features[(i-lo)*6:][:6], uint64(i))
		rng.New(2, rng.StreamNoise).Normal(logits[(i-lo)*3:][:3], uint64(i))
	}
	return features, logits, nil
}

func plan(file string) Plan {
	return Plan{Images: 100, Features: 6, Classes: 3, Block: 8, File: file}
}

func several(n, limit int, computed *atomic.Int64) (out []Worker) {
	for range n {
		out = append(out, noisy{computed, limit})
	}
	return out
}

func TestCollectIsTheSameForAnyWorkers(t *testing.T) {
	var computed atomic.Int64
	want, err := Collect(context.Background(), several(1, 100, &computed), plan(""))
	require.NoError(t, err)
	for workers := 2; workers <= 5; workers++ {
		got, err := Collect(context.Background(), several(workers, 100, &computed), plan(filepath.Join(t.TempDir(), "work")))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// What was finished when an evaluation ended is not computed again, and a damaged
// tail is.
func TestCollectGoesOn(t *testing.T) {
	var computed atomic.Int64
	want, err := Collect(context.Background(), several(1, 100, &computed), plan(""))
	require.NoError(t, err)

	file := filepath.Join(t.TempDir(), "deep", "work")
	_, err = Collect(context.Background(), several(2, 50, &computed), plan(file))
	require.ErrorIs(t, err, errBroken)
	info, err := os.Stat(file)
	require.NoError(t, err)
	const block = 8*9*4 + 4
	require.Positive(t, info.Size())
	require.Zero(t, info.Size()%block)
	kept := int(info.Size() / block)

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, damage := range map[string]func() (text []byte, good int){
		"whole":         func() ([]byte, int) { return text, kept },
		"cut off":       func() ([]byte, int) { return text[:len(text)-5], kept - 1 },
		"bit flipped":   func() ([]byte, int) { b := append([]byte(nil), text...); b[block+7] ^= 1; return b, 1 },
		"empty":         func() ([]byte, int) { return nil, 0 },
		"junk at end":   func() ([]byte, int) { return append(append([]byte(nil), text...), 1, 2, 3), kept },
		"another block": func() ([]byte, int) { return append(append([]byte(nil), text...), make([]byte, block)...), kept },
	} {
		b, good := damage()
		require.NoError(t, os.WriteFile(file, b, 0o644))
		computed.Store(0)
		p := plan(file)
		first := true
		p.Progress = func(done, found int) {
			if first && good > 0 {
				require.Equal(t, good*8, done, name)
			}
			require.Equal(t, good*8, found, name)
			first = false
		}
		got, err := Collect(context.Background(), several(3, 100, &computed), p)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
		require.Equal(t, int64(100-good*8), computed.Load(), name)
	}
}

func TestCollectStops(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stopped by SIGTERM")
	var computed atomic.Int64
	p := plan(filepath.Join(t.TempDir(), "work"))
	p.Progress = func(done, _ int) {
		if done >= 24 {
			cancel(stop)
		}
	}
	_, err := Collect(ctx, several(1, 100, &computed), p)
	require.ErrorIs(t, err, stop)
	require.Less(t, computed.Load(), int64(100))
	_, err = Collect(context.Background(), nil, p)
	require.ErrorContains(t, err, "0 workers")
}

func TestMeasure(t *testing.T) {
	var computed atomic.Int64
	c, err := Collect(context.Background(), several(1, 100, &computed), plan(""))
	require.NoError(t, err)
	k := KIDFor(100, 100)
	require.Equal(t, KID{Subsets: 100, SubsetSize: 100}, k)
	got, err := Measure("digits", c, Against{Features: &c.Features}, k)
	require.NoError(t, err)
	names := []string{"digits-is", "digits-sure", "digits-fd", "digits-kd", "digits-precision", "digits-recall", "digits-density", "digits-coverage"}
	require.Len(t, got, len(names))
	for _, n := range names {
		require.Contains(t, got, n)
	}
	require.InDelta(t, 0, got["digits-fd"].Value, 1e-9, "compared with itself")
	require.Equal(t, 1.0, got["digits-precision"].Value)
	require.Equal(t, 1.0, got["digits-coverage"].Value)

	s, err := statistics(c.Features)
	require.NoError(t, err)
	got, err = Measure("", c, Against{Statistics: s}, k)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.InDelta(t, 0, got[FID].Value, 1e-9)
	require.NotNil(t, got[InceptionScore].Deviation)
}

func TestClassify(t *testing.T) {
	c := Collection{Logits: eval.Features{Dim: 3, Data: []float32{
		5, 1, 2,
		0, 1, 2,
		0, 3, 2,
		0, 3, 2,
	}}}
	metrics := map[string]Metric{}
	Classify(metrics, "digits", c, func(i int) int { return i % 3 })
	require.Equal(t, map[string]Metric{"digits-accuracy": {Value: 0.25}}, metrics) // 0 of 0, 2 of 1, 1 of 2, 1 of 0
}

func TestSure(t *testing.T) {
	// Probabilities 0.5, 0.9002 and 0.8998.
	l := eval.Features{Dim: 2, Data: []float32{0, 0, 2.2, 0, 0, 2.195}}
	require.InDelta(t, 1.0/3, sure(l), 1e-12)
}

func TestRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eval.jsonl")
	none, err := ReadRecords(path)
	require.NoError(t, err)
	require.Empty(t, none)
	d := Definition{Step: 7, Weights: "raw", Sampler: &Sampler{Method: "ddim"}}
	spread := 0.5
	r := Record{Definition: d, ID: d.Digest(), Metrics: map[string]Metric{"is": {9.2, &spread}, "fid": {Value: 3}}}
	require.NoError(t, Append(path, r))
	// A crash in the middle of a line loses that line alone.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"step": 8, "wei`)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	got, err := ReadRecords(path)
	require.NoError(t, err)
	require.Equal(t, []Record{r}, got)
	d.Step = 9
	require.NotEqual(t, r.ID, d.Digest())
	other := Record{Definition: d, ID: d.Digest(), Metrics: map[string]Metric{}}
	require.NoError(t, Append(path, other))
	got, err = ReadRecords(path)
	require.NoError(t, err)
	require.Equal(t, []Record{r, other}, got)
	found, ok := Find(got, d.Digest())
	require.True(t, ok)
	require.Equal(t, int64(9), found.Step)
	_, ok = Find(got, "x")
	require.False(t, ok)

	require.NoError(t, os.WriteFile(path, []byte("nonsense\n{}\n"), 0o644))
	_, err = ReadRecords(path)
	require.ErrorContains(t, err, "line 1")
}

// Any bit flipped, any length cut to: the right record, none, or an error; never
// another number.
func TestRecordsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eval.jsonl")
	d := Definition{Step: 7, Weights: "raw"}
	r := Record{Definition: d, ID: d.Digest(), Metrics: map[string]Metric{"fid": {Value: 3.25}}, From: "runs/a"}
	require.NoError(t, Append(path, r))
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	line := bytes.TrimSuffix(good, []byte("\n"))
	for i := range line {
		for bit := range 8 {
			bad := bytes.Clone(line)
			bad[i] ^= 1 << bit
			got, err := parse(bad)
			if err == nil {
				require.Equal(t, r, got, "byte %d, bit %d", i, bit)
				require.GreaterOrEqual(t, i, len(line)-len(sumKey)-sumDigits-len(sumEnd), "only what names the checksum is not in it")
				continue
			}
			require.ErrorIs(t, err, ErrDamaged)
		}
		require.NoError(t, os.WriteFile(path, good[:i], 0o600))
		got, err := ReadRecords(path)
		require.NoError(t, err, "a line that was cut off, by a crash")
		require.Empty(t, got)
	}
	old := strings.Replace(string(good), sumField(good), "", 1)
	require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
	got, err := ReadRecords(path)
	require.NoError(t, err, "of a version without checksums")
	require.Equal(t, []Record{r}, got)
}

func sumField(line []byte) string {
	at := strings.Index(string(line), sumKey)
	return string(line[at : at+len(sumKey)+sumDigits+1])
}

// Two evaluations that need one reference at once compute it once; the second of one
// evaluation is refused.
func TestCollectAtOnce(t *testing.T) {
	var computed atomic.Int64
	want, err := Collect(context.Background(), several(1, 100, &computed), plan(""))
	require.NoError(t, err)
	computed.Store(0)

	var others sync.WaitGroup
	file := filepath.Join(t.TempDir(), "work")
	p := plan(file)
	p.Shared = true
	first := p
	first.Progress = func(done, _ int) {
		if done != 8 {
			return
		}
		_, err := Collect(context.Background(), several(1, 100, &computed), plan(file))
		require.ErrorContains(t, err, "another process")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errBroken)
		_, err = Collect(ctx, several(1, 100, &computed), p)
		require.ErrorIs(t, err, errBroken)
		others.Go(func() {
			got, err := Collect(context.Background(), several(1, 100, &computed), p)
			if assert.NoError(t, err) {
				assert.Equal(t, want, got)
			}
		})
	}
	got, err := Collect(context.Background(), several(1, 100, &computed), first)
	require.NoError(t, err)
	require.Equal(t, want, got)
	others.Wait()
	require.Equal(t, int64(100), computed.Load())
}
