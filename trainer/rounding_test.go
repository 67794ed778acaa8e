package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
)

// The NEON kernels round as the AVX2 ones do: training ends with the same bits on both
// architectures. hack/arm64-check.sh runs this under qemu.
func TestNEONRoundsAsAVX2(t *testing.T) {
	set := isa.AVX2
	if isa.NEON.Runs() {
		set = isa.NEON
	}
	if !set.Runs() {
		t.Skip("this processor has neither AVX2 nor NEON")
	}
	t.Setenv(isa.Env, set.String())
	require.Equal(t, "38b44cb0a5b76a6aac37b1ca1c7c7435cd1fe903037c6e8a6a05cfbcd7b9054f", runs(t, 1, smallConfig(4)))
}
