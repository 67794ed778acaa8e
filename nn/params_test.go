package nn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/autograd/gradcheck"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor"
)

// counted numbers the elements from 0.
func counted(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)
	}
	return x
}

func TestLayoutConversion(t *testing.T) {
	// PyTorch [out=2, in=3] to [in, out].
	linear := nn.Param{Kind: nn.Linear, Shape: []int{2, 3}, Len: 6}
	got := make([]float32, 6)
	linear.FromTorch(got, counted(6))
	require.Equal(t, []float32{0, 3, 1, 4, 2, 5}, got)

	// PyTorch [out=2, in=1, kh=2, kw=3] to [kh, kw, in, out].
	conv := nn.Param{Kind: nn.Conv, Shape: []int{2, 1, 2, 3}, Len: 12}
	got = make([]float32, 12)
	conv.FromTorch(got, counted(12))
	require.Equal(t, []float32{0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11}, got)

	// Element by element, from the definition of both layouts.
	conv = nn.Param{Kind: nn.Conv, Shape: []int{4, 5, 3, 2}, Len: 120}
	got = make([]float32, 120)
	conv.FromTorch(got, counted(120))
	for o := range 4 {
		for i := range 5 {
			for h := range 3 {
				for w := range 2 {
					require.InDelta(t, ((o*5+i)*3+h)*2+w, got[((h*2+w)*5+i)*4+o], 0)
				}
			}
		}
	}
	for _, p := range []nn.Param{linear, conv, {Kind: nn.Vector, Shape: []int{7}, Len: 7}} {
		there, back := make([]float32, p.Len), make([]float32, p.Len)
		p.FromTorch(there, counted(p.Len))
		p.ToTorch(back, there)
		require.Equal(t, counted(p.Len), back)
	}
	require.Panics(t, func() { linear.ToTorch(got, got) })
}

func someParams(t *testing.T) *nn.Params {
	t.Helper()
	p := &nn.Params{}
	require.Equal(t, 0, p.Add("a.weight", nn.Linear, 3, 5))
	require.Equal(t, 1, p.Add("a.bias", nn.Vector, 3))
	require.Equal(t, 2, p.Add("b.weight", nn.Conv, 2, 4, 3, 3))
	return p
}

func TestFlatStorage(t *testing.T) {
	be := gradcheck.Backend{}
	p := someParams(t)
	require.NoError(t, p.Alloc(be))
	require.Error(t, p.Alloc(be))
	require.Panics(t, func() { p.Add("late", nn.Vector, 1) })
	require.Equal(t, []nn.Param{
		{Name: "a.weight", Kind: nn.Linear, Shape: []int{3, 5}, Off: 0, Len: 15},
		{Name: "a.bias", Kind: nn.Vector, Shape: []int{3}, Off: 16, Len: 3},
		{Name: "b.weight", Kind: nn.Conv, Shape: []int{2, 4, 3, 3}, Off: 32, Len: 72},
	}, p.List())
	require.Equal(t, 90, p.Count())
	require.Equal(t, 112, p.FlatLen())
	require.Equal(t, 112, p.Values().Len())
	require.Equal(t, 112, p.Grads().Len())

	tape := autograd.NewTape(be, autograd.Config{Train: true})
	require.Equal(t, tensor.Of(5, 3), p.Leaf(tape, 0).Shape())
	require.Equal(t, tensor.Of(3, 3, 4, 2), p.Leaf(tape, 2).Shape())
	require.Equal(t, tensor.Of(1, 1, 5, 3), p.LeafAs(tape, 0, tensor.Of(1, 1, 5, 3)).Shape())
}

func TestFlattenUndoesUnflatten(t *testing.T) {
	p := someParams(t)
	flat := counted(p.FlatLen())
	tensors := p.Unflatten(flat)
	require.Equal(t, "b.weight", tensors[2].Name)
	require.Equal(t, []int{2, 4, 3, 3}, tensors[2].Shape)
	got := make([]float32, p.FlatLen())
	require.NoError(t, p.Flatten(got, tensors, nil))
	for _, q := range p.List() {
		require.Equal(t, flat[q.Off:q.Off+q.Len], got[q.Off:q.Off+q.Len])
	}
	require.Zero(t, got[15], "padding stays zero")

	tensors[0].Name = "old"
	require.ErrorIs(t, p.Flatten(got, tensors, nil), nn.ErrUnknown)
	require.NoError(t, p.Flatten(got, tensors, func(s string) string {
		if s == "old" {
			return "a.weight"
		}
		return s
	}))
	for _, shape := range [][]int{{15}, {5, 3}, {3, 5, 2}, {3}, nil} {
		tensors[0].Shape = shape
		require.ErrorIs(t, p.Flatten(got, tensors, nil), nn.ErrUnknown)
		require.ErrorIs(t, p.Flatten(got, tensors, func(string) string { return "a.weight" }), nn.ErrShape, "%v", shape)
	}
	tensors[0].Name, tensors[0].Shape, tensors[0].Data = "a.weight", []int{3, 5}, tensors[0].Data[:14]
	require.ErrorIs(t, p.Flatten(got, tensors, nil), nn.ErrShape)
}

// sharer counts what is allocated for sharing.
type sharer struct {
	gradcheck.Backend
	shared *[]int
}

func (s sharer) AllocShared(dt tensor.DType, n int) (tensor.Buffer, error) {
	*s.shared = append(*s.shared, n)
	return s.Alloc(dt, n)
}

// Gradients, and only they, go where other ranks can read them.
func TestGradientsAreShared(t *testing.T) {
	var p nn.Params
	p.Add("w", nn.Linear, 5, 7)
	var shared []int
	require.NoError(t, p.Alloc(sharer{shared: &shared}))
	require.Equal(t, []int{p.FlatLen()}, shared)
}
