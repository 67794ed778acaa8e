package worker

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/trainer"
	"github.com/agrdist/agrdist/worker/spec"
)

// single is the session of a run of one worker within this process.
type single struct{ generations chan cluster.Generation }

func (a single) Generations() <-chan cluster.Generation { return a.generations }
func (a single) Aborts() <-chan cluster.Abort           { return nil }
func (a single) Report(cluster.Report)                  {}

func (a single) Connect(_ context.Context, c allreduce.GroupConfig) (allreduce.Group, error) {
	return allreduce.NewLocal(1, c.Plan)[0], nil
}

// trained is the digest that a configuration's training ends with, in this process alone.
func trained(t *testing.T, set ...string) string {
	t.Helper()
	c, err := config.Load(config.Source{File: "../configs/digits-cpu.yaml", Set: append([]string{"out=" + t.TempDir(), "train.threads=1", "sample.count=0"}, set...)})
	require.NoError(t, err)
	w := &worker{cfg: c, log: slog.New(slog.DiscardHandler), out: recordsTo(nil), spec: spec.Spec{
		RunDir: c.Out, Member: "worker-0", Node: "node", RunID: "run", Fresh: true,
	}}
	defer w.shut()
	require.NoError(t, os.MkdirAll(filepath.Join(c.Out, "logs"), 0o755))
	parts, err := w.parts()
	require.NoError(t, err)
	session := single{make(chan cluster.Generation, 1)}
	parts.Session, parts.Connector, parts.Member, parts.Node = session, session, w.spec.Member, w.spec.Node
	cfg, err := w.trainerConfig()
	require.NoError(t, err)
	tr, err := trainer.New(cfg, parts)
	require.NoError(t, err)
	session.generations <- cluster.Generation{Number: 1, Members: []cluster.Member{{ID: w.spec.Member, Node: w.spec.Node}}}
	outcome, err := tr.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, trainer.Finished, outcome)
	require.Equal(t, c.Train.Steps, tr.State().Step)
	return trainer.Digest(tr.State())
}

// A run with train.cpu=portable ends with these bits on every processor: of an eighth of
// the images of configs/digits-cpu.yaml, that qemu and plain Go take seconds for.
// hack/arm64-check.sh runs this under qemu.
func TestPortableBits(t *testing.T) {
	for _, set := range slices.Backward(isa.Portables()) { // the fastest first
		t.Run(set.String(), func(t *testing.T) {
			t.Setenv(isa.Env, set.String())
			require.Equal(t, "c6fb76d9e2c2fde6d8e8a4509e13ae49c9e2120ed90a62a79ea4f8c0c39f8f74", trained(t, "train.cpu=portable", "train.steps=20", "train.global_batch=4", "train.chunk=4"))
		})
	}
}
