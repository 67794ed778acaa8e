package checkpoint

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchState is 64 MiB in the proportions of a run: model, EMA, four moments.
func benchState() *Snapshot {
	const list, tensors = 64 << 20 / 6 / 4, 32
	s := &Snapshot{Step: 1}
	fill := func(slot string) (out []Tensor) {
		for i := range tensors {
			t := Tensor{Name: fmt.Sprintf("%sblock.%02d.weight", slot, i), Shape: []int{list / tensors}, Data: make([]float32, list/tensors)}
			for j := range t.Data {
				t.Data[j] = float32(i*j) * 1e-6
			}
			out = append(out, t)
		}
		return out
	}
	s.Model, s.EMA = fill(""), fill("")
	for _, slot := range []string{"exp_avg.", "exp_avg_diff.", "exp_avg_sq.", "neg_pre_grad."} {
		s.Optimizer = append(s.Optimizer, fill(slot)...)
	}
	return s
}

// One save: write, sync, read back, rename, delete the one before.
func BenchmarkSave(b *testing.B) {
	snap := benchState()
	s := Open(b.TempDir(), Options{Keep: 1})
	b.SetBytes(snapshotBytes(snap))
	b.ReportAllocs()
	for b.Loop() {
		snap.Step++
		_, err := s.Save(b.Context(), snap)
		require.NoError(b, err)
	}
}

func BenchmarkNewest(b *testing.B) {
	snap := benchState()
	s := Open(b.TempDir(), Options{})
	_, err := s.Save(b.Context(), snap)
	require.NoError(b, err)
	b.SetBytes(snapshotBytes(snap))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _, err := s.Newest(b.Context())
		require.NoError(b, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	snap := benchState()
	info, err := Open(b.TempDir(), Options{}).Save(b.Context(), snap)
	require.NoError(b, err)
	b.SetBytes(snapshotBytes(snap))
	b.ReportAllocs()
	for b.Loop() {
		_, err := Verify(b.Context(), info.Path)
		require.NoError(b, err)
	}
}

// The time that SaveAsync takes from training: one copy.
func BenchmarkStaging(b *testing.B) {
	snap := benchState()
	var g Staging
	g.Copy(snap)
	b.SetBytes(snapshotBytes(snap))
	b.ReportAllocs()
	for b.Loop() {
		g.Copy(snap)
	}
}

func BenchmarkDigest(b *testing.B) {
	snap := benchState()
	b.SetBytes(snapshotBytes(snap))
	for b.Loop() {
		Digest(snap)
	}
}
