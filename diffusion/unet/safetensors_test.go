package unet_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/nn"
)

// golden is the content of a safetensors file of testdata; integers are converted
// to float64 with the rest.
type golden map[string]nn.Tensor

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	n := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	var entries map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw[8:8+n], &entries))
	delete(entries, "__metadata__")
	entry, err := json.Marshal(entries)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(entry, &header))
	g := golden{}
	for name, e := range header {
		data := raw[8+n:][e.Offsets[0]:e.Offsets[1]]
		var values []float32
		switch e.DType {
		case "F32":
			for ; len(data) > 0; data = data[4:] {
				values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(data)))
			}
		case "I64":
			for ; len(data) > 0; data = data[8:] {
				values = append(values, float32(int64(binary.LittleEndian.Uint64(data))))
			}
		default:
			t.Fatalf("%s: dtype %s", name, e.DType)
		}
		g[name] = nn.Tensor{Name: name, Shape: e.Shape, Data: values}
	}
	return g
}

// under returns the tensors below a prefix, without it.
func (g golden) under(prefix string) []nn.Tensor {
	var list []nn.Tensor
	for name, t := range g {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			t.Name = rest
			list = append(list, t)
		}
	}
	return list
}

func (g golden) integers(name string) []int64 {
	var list []int64
	for _, v := range g[name].Data {
		list = append(list, int64(v))
	}
	return list
}
