package checkpoint

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/internal/vfs"
)

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "checkpoints")
	s := Open(dir, testOptions(0))
	_, _, _, err := s.Newest(t.Context())
	require.ErrorIs(t, err, ErrNoCheckpoint)

	info := mustSave(t, s, 600)
	require.Equal(t, filepath.Join(dir, "step-600"), info.Path)
	require.Equal(t, Digest(state(600)), info.ModelDigest)
	require.Equal(t, testTime, info.Created)
	require.Equal(t, "v0.1.0", info.AgrdistVersion)
	require.Equal(t, []string{"step-600"}, names(t, vfs.OS{}, dir))
	require.Equal(t, []string{
		ConfigFile, EMAFile, ManifestFile, ModelFile, OptimizerFile, SchedulerFile, UNetFile,
	}, names(t, vfs.OS{}, info.Path))
	requireNewest(t, s, 600)

	// Loaded and saved elsewhere, it is the same files.
	snap, again, err := Read(t.Context(), info.Path, All)
	require.NoError(t, err)
	require.Equal(t, info, again)
	other, err := Open(filepath.Join(t.TempDir(), "other"), testOptions(0)).Save(t.Context(), snap)
	require.NoError(t, err)
	require.Equal(t, info.Manifest, other.Manifest)

	verified, err := Verify(t.Context(), info.Path)
	require.NoError(t, err)
	require.Equal(t, info, verified)

	// The weights are plain safetensors files with the model's keys.
	f, err := safetensors.ReadFile(filepath.Join(info.Path, EMAFile))
	require.NoError(t, err)
	v, shape, err := f.Float32("conv_in.weight")
	require.NoError(t, err)
	require.Equal(t, state(600).EMA[0].Data, v)
	require.Equal(t, []int{4, 3, 3, 3}, shape)
	require.Equal(t, map[string]string{"format": "pt"}, f.Metadata())
}

func TestReadParts(t *testing.T) {
	s := Open(t.TempDir(), testOptions(0))
	info := mustSave(t, s, 5)
	snap, _, err := Read(t.Context(), info.Path, EMA)
	require.NoError(t, err)
	require.Nil(t, snap.Model)
	require.Nil(t, snap.Optimizer)
	require.NoError(t, CheckTensors(state(5).EMA, snap.EMA))
	require.Equal(t, state(5).UNetConfig, snap.UNetConfig)

	// Drawing samples does not need the optimizer's file, nor look at it.
	require.NoError(t, os.Remove(filepath.Join(info.Path, OptimizerFile)))
	snap, _, _, err = s.NewestParts(t.Context(), Model)
	require.NoError(t, err)
	require.NoError(t, CheckTensors(state(5).Model, snap.Model))
	_, _, err = Read(t.Context(), info.Path, All)
	require.ErrorContains(t, err, "optimizer.safetensors is missing")

	plain := state(6)
	plain.EMA = nil
	info, err = Open(t.TempDir(), Options{}).Save(t.Context(), plain)
	require.NoError(t, err)
	_, _, err = Read(t.Context(), info.Path, EMA)
	require.ErrorIs(t, err, ErrNoEMA)
	snap, _, err = Read(t.Context(), info.Path, All)
	require.NoError(t, err)
	require.Nil(t, snap.EMA)
}

func TestEMAIsRequired(t *testing.T) {
	plain := state(6)
	plain.EMA = nil
	dir := t.TempDir()
	_, err := Open(dir, Options{}).Save(t.Context(), plain)
	require.NoError(t, err)
	s := Open(dir, testOptions(0))
	_, err = s.Save(t.Context(), plain)
	require.ErrorIs(t, err, ErrNoEMA)
	oneLine(t, err)
	_, _, _, err = s.Newest(t.Context())
	var none *NoneValidError
	require.ErrorAs(t, err, &none)
	require.ErrorIs(t, err, ErrNoEMA)
}

func TestRetentionKeepsTheNewestGood(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(2))
	for _, step := range []int64{5, 40, 100} {
		mustSave(t, s, step)
	}
	require.Equal(t, []int64{100, 40}, steps(t, s), "ordered as numbers, not as names")

	// A damaged one does not count: 40 stays as the second good one.
	rewrite(t, stepPath(dir, 100, ModelFile), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	s = Open(dir, testOptions(2))
	mustSave(t, s, 200)
	require.Equal(t, []int64{200, 100, 40}, steps(t, s))
	mustSave(t, s, 300)
	require.Equal(t, []int64{300, 200}, steps(t, s), "damaged and older than the kept ones: gone")

	// A later step from another history is left alone.
	mustSave(t, s, 250)
	require.Equal(t, []int64{300, 250, 200}, steps(t, s))
	require.Equal(t, []string{"step-200", "step-250", "step-300"}, names(t, vfs.OS{}, dir))
}

func TestPinnedStay(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(1)
	o.Pinned = func(step int64) bool { return step == 10 || step == 30 }
	s := Open(dir, o)
	for _, step := range []int64{10, 20, 30, 40, 50} {
		mustSave(t, s, step)
	}
	require.Equal(t, []int64{50, 30, 10}, steps(t, s))
}

func TestKeepOneNeverLosesTheLastGood(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(1))
	mustSave(t, s, 1)
	bad := state(2)
	bad.EMA = bad.EMA[:1]
	_, err := s.Save(t.Context(), bad)
	require.ErrorIs(t, err, ErrSnapshot)
	require.ErrorContains(t, err, "the checkpoint of step 1 is untouched")
	requireNewest(t, s, 1)
}

func TestNewestWalksBack(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	opts := testOptions(0)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := Open(dir, opts)
	for step := range int64(6) {
		mustSave(t, s, step)
	}
	rewrite(t, stepPath(dir, 5, OptimizerFile), func(b []byte) []byte { return b[:len(b)-1] })
	rewrite(t, stepPath(dir, 4, EMAFile), func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	require.NoError(t, os.Remove(stepPath(dir, 3, ManifestFile)))
	require.NoError(t, os.Rename(filepath.Join(dir, "step-2"), filepath.Join(dir, "step-7")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "step-6"), []byte("a file"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "step-09"), 0o700))

	snap, info, skipped, err := s.Newest(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(1), info.Step)
	requireState(t, state(1), snap)
	var got []int64
	reasons := ""
	for _, k := range skipped {
		got = append(got, k.Step)
		reasons += k.Reason.Error() + "\n"
	}
	require.Equal(t, []int64{7, 6, 5, 4, 3}, got)
	require.Regexp(t, `^manifest.json is of step 2: the directory was renamed
.*not a directory
optimizer.safetensors has \d+ bytes, the manifest says \d+
ema.safetensors has SHA-256 [0-9a-f]{12}, the manifest says [0-9a-f]{12}: the file is damaged
no manifest.json: it was not written to its end
$`, reasons)
	require.Equal(t, 5, bytes.Count(log.Bytes(), []byte("checkpoint skipped")))

	good, bad, err := s.Verify(t.Context())
	require.NoError(t, err)
	require.Len(t, good, 2)
	require.Len(t, bad, 5)
	infos, unreadable, err := s.List()
	require.NoError(t, err)
	require.Len(t, infos, 5)
	require.Len(t, unreadable, 2)
}

func TestNoneGoodIsAnError(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(0))
	for step := range int64(2) {
		mustSave(t, s, step)
		rewrite(t, stepPath(dir, step, ConfigFile), func(b []byte) []byte { return append(b, '#') })
	}
	_, _, _, err := s.Newest(t.Context())
	require.NotErrorIs(t, err, ErrNoCheckpoint)
	var none *NoneValidError
	require.ErrorAs(t, err, &none)
	require.Len(t, none.Skipped, 2)
	require.EqualError(t, err, "checkpoint: none of the 2 checkpoints in "+dir+" is good:"+
		" step 1: config.yaml has 10 bytes, the manifest says 9; step 0: config.yaml has 10 bytes, the manifest says 9;"+
		" restore one from a copy, or move the directory away to start afresh")
}

func TestSavingTheSameStepAgain(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(1))
	first := mustSave(t, s, 3)
	s.opts.Now = func() time.Time { return testTime.AddDate(1, 0, 0) }
	require.Equal(t, first, mustSave(t, s, 3), "the same and good: nothing is written")

	// Damaged: replaced.
	rewrite(t, stepPath(dir, 3, ModelFile), func(b []byte) []byte { return b[:100] })
	require.NotEqual(t, first.Created, mustSave(t, s, 3).Created)
	requireNewest(t, s, 3)
	require.Equal(t, []string{"step-3"}, names(t, vfs.OS{}, dir))

	// Another history: replaced.
	other := state(3)
	other.Model[0].Data[0] = 99
	_, err := s.Save(t.Context(), other)
	require.NoError(t, err)
	snap, _, _, err := s.Newest(t.Context())
	require.NoError(t, err)
	requireState(t, other, snap)
}

func TestHalfReplacedCheckpointIsFoundAndRestored(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(0))
	mustSave(t, s, 3)
	aside := filepath.Join(dir, ".replaced-step-3")
	require.NoError(t, os.Rename(filepath.Join(dir, "step-3"), aside))
	requireNewest(t, s, 3)
	mustSave(t, s, 4)
	require.Equal(t, []string{"step-3", "step-4"}, names(t, vfs.OS{}, dir))
	require.NoError(t, os.CopyFS(aside, os.DirFS(filepath.Join(dir, "step-3"))))
	mustSave(t, s, 5)
	require.Equal(t, []string{"step-3", "step-4", "step-5"}, names(t, vfs.OS{}, dir))
}

// Damage of any file at any place: cut to every length (the manifest and the
// documents) or around every boundary (the tensors), and bits flipped.
func TestEveryDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir, testOptions(0))
	mustSave(t, s, 1)
	mustSave(t, s, 2)
	for _, name := range append([]string{ManifestFile}, fileOrder...) {
		path := stepPath(dir, 2, name)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		damaged := func(b []byte, format string, args ...any) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, b, 0o600))
			_, err := Verify(t.Context(), filepath.Dir(path))
			require.Errorf(t, err, name+": "+format, args...)
			oneLine(t, err)
			part, ok := map[string]Parts{ModelFile: Model, EMAFile: EMA, OptimizerFile: Optimizer}[name]
			if ok { // also when the digest of the whole is not looked at
				_, _, err = Read(t.Context(), filepath.Dir(path), part)
				require.Errorf(t, err, name+" alone: "+format, args...)
			}
		}
		stride := max(1, len(good)/29)
		for n := range good {
			if n < 9 || n > len(good)-5 || n%stride == 0 {
				damaged(good[:n], "cut to %d of %d bytes", n, len(good))
				b := bytes.Clone(good)
				b[n] ^= 1 << (n % 8)
				damaged(b, "bit %d of byte %d flipped", n%8, n)
			}
		}
		damaged(append(bytes.Clone(good), 0), "a byte more")
		require.NoError(t, os.Remove(path))
		_, err = Verify(t.Context(), filepath.Dir(path))
		require.Error(t, err, "%s missing", name)
		requireNewest(t, s, 1)
		require.NoError(t, os.WriteFile(path, good, 0o600))
	}
	requireNewest(t, s, 2)
}

// A checkpoint whose checksums are right but which a state cannot be: someone
// wrote it with other means.
func TestForeignContentsAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Snapshot, *bytes.Buffer){
		`ema: "scale" is missing`: func(s *Snapshot, _ *bytes.Buffer) { s.EMA = s.EMA[:3] },
		"not F32 tensors":         func(_ *Snapshot, f *bytes.Buffer) { f.Reset(); writeAs(t, f, safetensors.F16) },
		"the manifest says 4":     func(_ *Snapshot, f *bytes.Buffer) { f.Reset(); writeAs(t, f, 0) },
		"safetensors: at byte":    func(_ *Snapshot, f *bytes.Buffer) { f.Reset(); f.WriteString("a pickle, perhaps") },
	} {
		dir := filepath.Join(t.TempDir(), "step-1")
		snap := state(1)
		var foreign bytes.Buffer
		change(snap, &foreign)
		s := open(vfs.OS{}, filepath.Dir(dir), testOptions(0))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		m, err := s.writeFiles(t.Context(), dir, snap)
		require.NoError(t, err)
		if foreign.Len() > 0 {
			path := filepath.Join(dir, ModelFile)
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Remove(filepath.Join(dir, ManifestFile)))
			info, err := s.writeFile(t.Context(), path, func(w io.Writer) error {
				_, err := w.Write(foreign.Bytes())
				return err
			})
			require.NoError(t, err)
			for i, f := range m.Files {
				if f.Name == ModelFile {
					info.Tensors = f.Tensors
					m.Files[i] = info
				}
			}
			text, err := m.encode()
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, ManifestFile), text, 0o600))
		}
		_, err = Verify(t.Context(), dir)
		require.ErrorContains(t, err, want)
	}
}

// The digest in the manifest is a statement about the tensors, not a copy.
func TestWrongDigestIsRefused(t *testing.T) {
	s := Open(t.TempDir(), testOptions(0))
	info := mustSave(t, s, 1)
	rewrite(t, filepath.Join(info.Path, ManifestFile), func(b []byte) []byte {
		m, err := decodeManifest(b)
		require.NoError(t, err)
		m.ModelDigest = Digest(state(2))
		b, err = m.encode()
		require.NoError(t, err)
		return b
	})
	_, err := Verify(t.Context(), info.Path)
	require.ErrorContains(t, err, "model digest is ")
}

func writeAs(t *testing.T, f *bytes.Buffer, d safetensors.DType) {
	t.Helper()
	var list []safetensors.Tensor
	if d != 0 {
		for _, x := range state(1).Model {
			list = append(list, safetensors.Tensor{Name: x.Name, DType: d, Shape: x.Shape, Data: safetensors.Float32s(x.Data)})
		}
	}
	require.NoError(t, safetensors.Write(f, list, nil))
}
