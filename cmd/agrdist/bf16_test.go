package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// In precision bf16 too the number of workers is no part of the model, which is
// another than float32's. The run's first event says what computed it.
func TestAnyNumberOfWorkersTrainsTheSameModelInBF16(t *testing.T) {
	t.Parallel()
	var digests []string
	for _, workers := range []int{1, 3} {
		dir := filepath.Join(t.TempDir(), "run")
		run(t, training(dir, "--workers", fmt.Sprint(workers), "--set", "train.precision=bf16")...).ended(exitOK)
		digests = append(digests, finish(t, dir).ModelDigest)
		started := slices.IndexFunc(events(t, dir), func(e metrics.Event) bool { return strings.HasSuffix(e.Backend, " bf16") })
		require.NotEqual(t, -1, started, "no start in bf16")
	}
	require.Equal(t, digests[0], digests[1])
	require.NotEqual(t, finish(t, reference(t)).ModelDigest, digests[0])
}
