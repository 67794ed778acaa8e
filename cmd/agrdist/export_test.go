package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The history of a run in every form. What the files hold is tested in metrics/export,
// and by the libraries that read them in hack/e2e-web.sh.
func TestExport(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	start(t, training(dir, "--workers", "1", "--set", "train.steps=12")...).ended(exitOK)
	for _, to := range []string{"csv", "mlflow", "wandb-jsonl"} {
		out := filepath.Join(t.TempDir(), "made")
		run(t, "export", dir, "--to", to, "--out", out).ended(exitOK)
		entries, err := os.ReadDir(out)
		require.NoError(t, err)
		require.NotEmpty(t, entries)
		again := run(t, "export", dir, "--to", to, "--out", out).ended(exitFailed)
		require.Contains(t, again.stderr.String(), "is not empty")
	}
	p := run(t, "export", dir).ended(exitUsage)
	require.Contains(t, p.stderr.String(), "weights are exported by: agrdist checkpoint export")

	table := run(t, "events", dir, "--format", "parquet").ended(exitOK).stdout.String()
	require.Equal(t, "PAR1", table[:4])
	require.Contains(t, table, "loss_t_low")
	require.Contains(t, run(t, "events", dir, "--format", "xml").ended(exitUsage).stderr.String(), "csv, parquet or json")
	require.Contains(t, run(t, "events", dir+"none").ended(exitFailed).stderr.String(), "give a run's directory")
}
