package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSameBuild(t *testing.T) {
	const file, kernels = "install the same program file", "start the run with train.cpu=portable"
	for _, c := range []struct{ a, b, want string }{
		{"1.0 abc", "1.1 abc", file},
		{"1.0 abc 12 on cpu/avx2", "1.0 abc 13 on cpu/avx2", file},
		{"1.0 abc 12 on cpu/avx2", "1.0 abc 12 on cpu/avx512", kernels},
		{"1.0 abc 12 on cpu/avx2 bf16", "1.0 abc 13 on cpu/neon bf16", kernels},
		{"1.0 abc 12 on cuda/sm_90", "1.0 abc 12 on cpu/avx2", file},
	} {
		require.Contains(t, sameBuild(c.a, c.b), c.want, "%+v", c)
		require.Contains(t, sameBuild(c.b, c.a), c.want, "%+v", c)
	}
}
