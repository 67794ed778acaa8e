//go:build cuda

package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/tensor"
)

// stagingElems is how many F32 elements a half of the staging memory holds.
const stagingElems = 2 << 20

// Copies longer than the staging memory go through it in pieces.
func TestLongCopies(t *testing.T) {
	be := open(t)
	for _, n := range []int{stagingElems - 1, stagingElems, stagingElems + 1, 3*stagingElems + 77} {
		host := make([]float32, n)
		for i := range host {
			host[i] = float32(i % 8191)
		}
		buf, err := be.Alloc(tensor.F32, n)
		require.NoError(t, err)
		be.Upload(buf, host)
		clear(host) // it may be reused at once
		got := download(t, be, buf)
		for i, v := range got {
			if v != float32(i%8191) {
				require.Equal(t, float32(i%8191), v, "element %d of %d", i, n)
			}
		}
		be.Free(buf)
	}
}

// Uploads run ahead of the device's work and are taken in its order: an operation
// sees what was uploaded before it was called, and not what was uploaded after.
func TestUploadsKeepTheirOrder(t *testing.T) {
	const n = stagingElems / 3 // a few to a half
	be := open(t)
	s := tensor.Of(n)
	in := tensor.Tensor{Buf: alloc(t, be, tensor.F32, make([]float32, n)), Shape: s}
	sum := tensor.Tensor{Buf: alloc(t, be, tensor.F32, make([]float32, n)), Shape: s}
	host := make([]float32, n)
	weight := float32(1)
	want := float32(0)
	for i := range 20 {
		for j := range host {
			host[j] = float32(i)
		}
		be.Upload(in.Buf, host)
		for range 3 { // keep the device busy
			be.AddScaled(sum, in, weight)
			want += weight * float32(i)
		}
	}
	got := download(t, be, sum.Buf)
	for j, v := range got {
		if v != want {
			require.Equal(t, want, v, "element %d", j)
		}
	}
}

// Small uploads of all types mix.
func TestMixedUploads(t *testing.T) {
	be := open(t)
	var f, h []tensor.Buffer
	for i := range 50 {
		f = append(f, alloc(t, be, tensor.F32, normal(i, i+1)))
		h = append(h, alloc(t, be, tensor.BF16, roundBits(normal(i, 2*i+1), bf16Bits)))
	}
	for i := range f {
		require.Equal(t, normal(i, i+1), download(t, be, f[i]))
		require.Equal(t, roundBits(normal(i, 2*i+1), bf16Bits), download(t, be, h[i]))
	}
}

// A copy that is fetched is one of what was there when it was asked for, and is there
// after Sync.
func TestFetch(t *testing.T) {
	be := open(t)
	host, err := be.AllocFetched(1000)
	require.NoError(t, err)
	for round := range 10 {
		want := normal(round, 1000)
		buf := alloc(t, be, tensor.F32, want)
		be.Fetch(host[:400], be.Slice(buf, 0, 400))
		be.Fetch(host[400:], be.Slice(buf, 400, 600))
		be.Fill(tensor.Flat(buf), 3) // later
		require.Zero(t, cudatest.CallsOf(t, func() { be.Fetch(host[:0], be.Slice(buf, 0, 0)) }))
		require.NoError(t, be.Sync())
		require.Equal(t, want, host)
		be.Free(buf)
	}
	require.Equal(t, 1, cudatest.CallsOf(t, func() {
		be.Fetch(host, alloc(t, be, tensor.F32, host))
		require.NoError(t, be.Sync())
	}).Waits)
	require.Panics(t, func() { be.Fetch(host[:3], alloc(t, be, tensor.F32, host)) })
}

// Inputs that the device has taken leave their room to the next ones: a loop that waits
// once a step never waits for staging.
func TestStagingIsFreeAfterSync(t *testing.T) {
	be := open(t)
	const n = 1 << 20 // half of a half
	buf, values := alloc(t, be, tensor.F32, make([]float32, n)), make([]float32, n)
	require.NoError(t, be.Sync())
	require.Equal(t, 8, cudatest.CallsOf(t, func() {
		for range 8 {
			be.Upload(buf, values)
			require.NoError(t, be.Sync())
		}
	}).Waits)
}
