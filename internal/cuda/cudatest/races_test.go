//go:build cuda

package cudatest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

// racy has kernels that each do one thing that nothing orders, and their twins that
// wait for it.
const racy = `
extern "C" __global__ void turned(float *x) {
  __shared__ float room[64];
  room[threadIdx.x] = x[threadIdx.x];
  BARRIER
  x[threadIdx.x] = room[63 - threadIdx.x];
}
extern "C" __global__ void shared2(float *x) {
  __shared__ float room;
  if (threadIdx.x < 2) room = 1;
  BARRIER
  if (threadIdx.x == 0) x[0] = room;
}
extern "C" __global__ void reused(float *x) {
  __shared__ float room[64];
  room[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float other = room[63 - threadIdx.x];
  BARRIER
  room[threadIdx.x] = other;
  x[threadIdx.x] = room[threadIdx.x];
}
extern "C" __global__ void neighbour(float *x) {
  float left = x[(threadIdx.x + 63) % 64];
  BARRIER
  x[threadIdx.x] = left;
}
extern "C" __global__ void blocks(float *x) { x[threadIdx.x] += 1; }
extern "C" __global__ void unwritten(float *x) {
  __shared__ float room[64];
  if (threadIdx.x < 63) room[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = room[threadIdx.x];
}
`

// A missing barrier is found, whatever order the threads happen to run in, and one that
// is there satisfies the check.
func TestRaces(t *testing.T) {
	cudatest.Doubles(t, "compute-sanitizer's racecheck is for a GPU")
	t.Setenv("AGRDIST_FAKE_RACES", "1")
	for _, tt := range []struct {
		kernel    string
		blocks    int
		with, out bool // a fault with barriers, and without
	}{
		{"turned", 1, false, true},
		{"shared2", 1, true, true}, // two threads write it
		{"reused", 1, false, true},
		{"neighbour", 1, false, true},
		{"blocks", 1, false, false},
		{"blocks", 2, true, true}, // no barrier orders blocks
		{"unwritten", 1, true, true},
	} {
		for barrier, fault := range map[string]bool{"__syncthreads();": tt.with, "": tt.out} {
			t.Run(tt.kernel+barrier, func(t *testing.T) {
				dev := cudatest.Context(t, 0)
				m := cudatest.Module(t, dev, strings.ReplaceAll(racy, "BARRIER", barrier))
				x := cudatest.Upload(t, count(64))
				require.NoError(t, cudatest.Launch(cudatest.Function(t, m, tt.kernel), cu.NoStream, tt.blocks, 64, uint64(x)))
				if err := cu.Synchronize(); fault {
					require.ErrorIs(t, err, cu.LaunchFailed)
				} else {
					require.NoError(t, err)
				}
			})
		}
	}
}
