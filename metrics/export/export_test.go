package export

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/metrics"
)

// example has steps with and without measurements, and an event of another kind.
func example() []metrics.Event {
	at := func(second string) string { return "2026-01-02T03:04:" + second + ".500Z" }
	return []metrics.Event{
		{Event: metrics.EventStart, Time: at("00"), Steps: 3},
		{Event: metrics.EventStep, Time: at("01"), Step: 1, Loss: metrics.Finite(0.5), LR: metrics.Finite(0), StepMillis: 4, WorldSize: 2, Generation: 1},
		{Event: metrics.EventStep, Time: at("02"), Step: 2, Loss: metrics.Finite(0.25), UpdateNorm: metrics.Finite(3), Data: []float64{1, 7}, WorldSize: 2, Generation: 1},
		{Event: metrics.EventStep, Time: at("03"), Step: 3, WorldSize: 1, Generation: 2}, // a loss that was not finite
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, CSV(&b, example()))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 4)
	column := func(name string) (out []string) {
		for i, h := range rows[0] {
			if h == name {
				for _, r := range rows[1:] {
					out = append(out, r[i])
				}
			}
		}
		return out
	}
	require.Equal(t, []string{"1", "2", "3"}, column("step"))
	require.Equal(t, []string{"0.5", "0.25", ""}, column("loss"))
	require.Equal(t, []string{"", "7", ""}, column("data_ms_max"), "the largest of the ranks")
	require.Equal(t, []string{"0", "", ""}, column("lr"), "nought is not nothing")
}

// The file is what pyarrow 26 reads (hack/e2e-web.sh has it read a run's); these are the
// bytes of its parts.
func TestParquet(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Parquet(&b, example()))
	out := b.Bytes()
	require.Equal(t, "PAR1", string(out[:4]))
	require.Equal(t, "PAR1", string(out[len(out)-4:]))
	// The first page is that of step: a header for 3 values in 24 bytes, and the values.
	require.Equal(t, "1500"+"1530"+"1530"+"2c"+"1506"+"1500"+"1506"+"1506"+"00"+"00"+
		"0100000000000000"+"0200000000000000"+"0300000000000000", hex.EncodeToString(out[4:4+17+24]))
	c := column{floats: []*float64{metrics.Finite(1), nil, nil, metrics.Finite(-2)}}
	require.Equal(t, "06000000"+"0201"+"0400"+"0201"+"000000000000f03f"+"00000000000000c0", hex.EncodeToString(c.page(4)))

	golden := filepath.Join("testdata", "steps.parquet")
	if os.Getenv("AGRDIST_REWRITE") != "" {
		require.NoError(t, os.WriteFile(golden, out, 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, want, out)
	require.NoError(t, Parquet(&b, nil), "a run without steps has a table without rows")
}

func TestTrackers(t *testing.T) {
	r := Run{
		Name: "digits", Events: example(), Settings: map[string]string{"lr.base": "0.002"}, Typed: map[string]any{"lr.base": 0.002}, Model: "0f",
	}
	dir := filepath.Join(t.TempDir(), "out")
	require.NoError(t, Write("wandb-jsonl", dir, r))
	history, err := os.ReadFile(filepath.Join(dir, "wandb-history.jsonl"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(history)), "\n")
	require.Len(t, lines, 3)
	var row map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &row))
	require.EqualValues(t, 2, row["_step"])
	require.EqualValues(t, 0.25, row["train/loss"])
	require.EqualValues(t, 3, row["train/update_norm"])

	require.ErrorContains(t, Write("mlflow", dir, r), "is not empty")
	require.ErrorContains(t, Write("neptune", dir, r), "csv, mlflow, wandb-jsonl")

	dir = filepath.Join(t.TempDir(), "mlruns")
	require.NoError(t, Write("mlflow", dir, r))
	found, err := filepath.Glob(filepath.Join(dir, "0", "*", "metrics", "train", "loss"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	text, err := os.ReadFile(found[0])
	require.NoError(t, err)
	require.Equal(t, "1767323041500 0.5 1\n1767323042500 0.25 2\n", string(text))
	param, err := os.ReadFile(filepath.Join(filepath.Dir(found[0]), "..", "..", "params", "lr.base"))
	require.NoError(t, err)
	require.Equal(t, "0.002", string(param))

	dir = filepath.Join(t.TempDir(), "csv")
	require.NoError(t, Write("csv", dir, r))
	for _, name := range []string{"steps.csv", "events.jsonl", "config.json"} {
		require.FileExists(t, filepath.Join(dir, name))
	}
}
