//go:build cuda

package cudatest_test

import (
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }

func TestVectorAdd(t *testing.T) {
	require.NoError(t, driver.Init())
	info, err := driver.Status()
	require.NoError(t, err)
	t.Log(info)
	img, log, err := nvrtc.Compile(`extern "C" __global__ void add(float*z,const float*x,const float*y,int n){
 __shared__ float r[256];
 int i=blockIdx.x*blockDim.x+threadIdx.x; r[threadIdx.x]=i<n?x[i]:0; __syncthreads(); float s=0; for(int k=0;k<256;k++) s+=r[k];
 float v = __shfl_xor_sync(0xffffffffu, s, 3);
 if(i<n) z[i]=x[i]+y[i]+0*v; }`, "add.cu", "sm_90")
	require.NoError(t, err, log)
	require.Empty(t, log)
	dev, _ := cu.GetDevice(0)
	ctx, err := dev.RetainPrimaryCtx()
	require.NoError(t, err)
	require.NoError(t, cu.SetCurrentContext(ctx))
	m, err := cu.LoadData(string(img))
	require.NoError(t, err)
	f, err := m.Function("add")
	require.NoError(t, err)
	n := 1000
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)
	}
	var p [3]cu.DevicePtr
	for i := range p {
		p[i], err = cu.MemAlloc(int64(4 * n))
		require.NoError(t, err)
	}
	require.NoError(t, cu.MemcpyHtoD(p[1], unsafe.Pointer(&x[0]), int64(4*n)))
	require.NoError(t, cu.MemcpyHtoD(p[2], unsafe.Pointer(&x[0]), int64(4*n)))
	args := []uint64{uint64(p[0]), uint64(p[1]), uint64(p[2]), uint64(n)}
	var ps []unsafe.Pointer
	for i := range args {
		ps = append(ps, unsafe.Pointer(&args[i]))
	}
	require.NoError(t, f.Launch(4, 1, 1, 256, 1, 1, 0, cu.NoStream, ps))
	z := make([]float32, n)
	require.NoError(t, cu.MemcpyDtoH(unsafe.Pointer(&z[0]), p[0], int64(4*n)))
	for i := range z {
		require.Equal(t, 2*x[i], z[i])
	}
}
