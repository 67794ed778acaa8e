//go:build cuda

package worker

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
)

// digestVariable names the file that TestGPUDigest leaves its digest in.
const digestVariable = "AGRDIST_TEST_DIGEST"

// Two steps on a GPU end with bits that do not depend on the host's processor.
// hack/cuda-arm64-check.sh runs this for amd64 and for arm64, on doubles, and compares.
func TestGPUDigest(t *testing.T) {
	cudatest.Doubles(t, "the digest is compared between two processors")
	require.NoError(t, cudatest.Setup())
	set := []string{
		"model.block_out_channels=[8,16]", "model.norm_num_groups=4", "train.steps=2", "train.global_batch=2", "train.chunk=2",
	}
	digest := trained(t, append(set, "device=cuda")...)
	require.NotEqual(t, trained(t, append(set, "device=cpu")...), digest, "the GPU has its own order of sums")
	if file := os.Getenv(digestVariable); file != "" {
		require.NoError(t, os.WriteFile(file, []byte(digest+"\n"), 0o600))
	}
	t.Log(digest)
}
