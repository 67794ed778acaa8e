package unet_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/nn"
)

// golden is a safetensors file of testdata.
type golden struct {
	t testing.TB
	*safetensors.File
}

func readGolden(tb testing.TB, name string) golden {
	tb.Helper()
	f, err := safetensors.ReadFile(filepath.Join("testdata", name))
	require.NoError(tb, err)
	return golden{tb, f}
}

func (g golden) values(name string) []float32 {
	g.t.Helper()
	v, _, err := g.Float32(name)
	require.NoError(g.t, err)
	return v
}

func (g golden) integers(name string) []int64 {
	g.t.Helper()
	v, _, err := g.Int64(name)
	require.NoError(g.t, err)
	return v
}

// under returns the tensors below a prefix, without it.
func (g golden) under(prefix string) []nn.Tensor {
	g.t.Helper()
	var list []nn.Tensor
	for _, name := range g.Names() {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			data, shape, err := g.Float32(name)
			require.NoError(g.t, err)
			list = append(list, nn.Tensor{Name: rest, Shape: shape, Data: data})
		}
	}
	return list
}
