package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loop returns the instructions of a function from a label to the jump back to it.
func loop(t *testing.T, text, function, label, jump string) []string {
	t.Helper()
	_, text, ok := strings.Cut(text, "TEXT ·"+function+"(SB)")
	require.True(t, ok, function)
	_, text, ok = strings.Cut(text, "\n"+label+":\n")
	require.True(t, ok, label)
	text, _, ok = strings.Cut(text, "\t"+jump+" "+label+"\n")
	require.True(t, ok, jump)
	return append(strings.Split(strings.TrimSpace(text), "\n"), jump)
}

// What a processor's multiply-add pipes get of the inner loops of the tiles: the part of
// their instructions that multiply and add, and the loads.
func TestTilesAreMostlyMultiplyAdds(t *testing.T) {
	var file []byte
	for _, name := range []string{"../tile_arm64.s", "../bf16_arm64.s"} {
		part, err := os.ReadFile(name)
		require.NoError(t, err)
		file = append(file, part...)
	}
	for _, c := range []struct {
		function, multiplies string
		count, each          int     // such instructions, and multiply-adds of one
		share                float64 // of the instructions, at least
		loads                int     // instructions that load
	}{
		{"nnNEON", "fmla", rows * vecs * lanes, 4, 0.85, 14},
		{"tnNEON", "fmla", rows * vecs * lanes, 4, 0.90, 8},
		{"nnBF16NEON", "bfmmla", 48, 16, 0.67, 14},
		{"tnBF16NEON", "bfmmla", 48, 16, 0.65, 12},
	} {
		body := loop(t, string(file), c.function, "four", "BGE")
		var madds, loads int
		for _, line := range body {
			switch {
			case strings.Contains(line, "// "+c.multiplies):
				madds++
			case strings.Contains(line, "// ld"):
				loads++
			}
		}
		t.Logf("%s: %d instructions, %d %s (%.1f %%), %d loads; %.2f multiply-adds an instruction", c.function, len(body), madds, c.multiplies,
			100*float64(madds)/float64(len(body)), loads, float64(c.each*madds)/float64(len(body)))
		require.Equal(t, c.count, madds)
		require.GreaterOrEqual(t, float64(madds)/float64(len(body)), c.share)
		require.Equal(t, c.loads, loads)
	}
}

// The files in the tree are what the generator writes.
func TestGenerated(t *testing.T) {
	for group, file := range map[string]string{"tile": "../tile_arm64.s", "bf16": "../bf16_arm64.s", "vector": "../vector_arm64.s", "patch": "../patch_arm64.s"} {
		have, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, text(group), string(have), "run make generate")
	}
}
