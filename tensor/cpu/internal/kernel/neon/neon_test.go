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
	file, err := os.ReadFile("../tile_arm64.s")
	require.NoError(t, err)
	for _, c := range []struct {
		function string
		share    float64 // of multiply-adds, at least
		loads    int     // instructions that load, for 96 multiply-adds
	}{{"nnNEON", 0.85, 14}, {"tnNEON", 0.90, 8}} {
		body := loop(t, string(file), c.function, "four", "BGE")
		var madds, loads int
		for _, line := range body {
			switch {
			case strings.Contains(line, "// fmla"):
				madds++
			case strings.Contains(line, "// ld"):
				loads++
			}
		}
		t.Logf("%s: %d instructions, %d multiply-adds (%.1f %%), %d loads", c.function, len(body), madds, 100*float64(madds)/float64(len(body)), loads)
		require.Equal(t, rows*vecs*lanes, madds)
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
