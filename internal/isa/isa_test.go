package isa_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
)

func TestParse(t *testing.T) {
	for s := isa.Go; s <= isa.NEONBF16; s++ {
		got, err := isa.Parse(s.String())
		if s.Runs() {
			require.NoError(t, err)
			require.Equal(t, s, got)
			continue
		}
		require.ErrorIs(t, err, isa.ErrSet)
		require.ErrorContains(t, err, "this processor cannot run \""+s.String()+"\"; it runs go")
	}
	for _, name := range []string{"", "sse", "AVX2", "avx512 bf16"} {
		_, err := isa.Parse(name)
		require.ErrorIs(t, err, isa.ErrSet, name)
	}
}

func TestSets(t *testing.T) {
	all := isa.Supported()
	require.Equal(t, isa.Go, all[0])
	require.Equal(t, all[len(all)-1], isa.Best())
	for _, s := range all {
		require.True(t, s.Runs())
		require.Equal(t, s, s.F32())
	}
	require.IsIncreasing(t, all)
	require.Equal(t, runtime.GOARCH == "arm64", isa.Best() == isa.NEON)
	require.Equal(t, isa.AVX512, isa.AVX512BF16.F32())
	require.Equal(t, isa.NEON, isa.NEONBF16.F32())
}

func TestFromEnv(t *testing.T) {
	t.Setenv(isa.Env, "")
	_, named, err := isa.FromEnv()
	require.NoError(t, err)
	require.False(t, named)

	t.Setenv(isa.Env, "go")
	s, named, err := isa.FromEnv()
	require.NoError(t, err)
	require.True(t, named)
	require.Equal(t, isa.Go, s)

	t.Setenv(isa.Env, "sse9")
	_, named, err = isa.FromEnv()
	require.False(t, named)
	require.ErrorIs(t, err, isa.ErrSet)
	require.ErrorContains(t, err, `AGRDIST_CPU: isa: no such instruction set: "sse9"; this processor runs go`)
}
