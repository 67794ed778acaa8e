package main

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// photos is a folder of n small pictures.
func photos(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		m := image.NewNRGBA(image.Rect(0, 0, 8+i%3, 8))
		for p := range m.Pix {
			m.Pix[p] = uint8(p*(i+3)) | 0x0f
		}
		m.SetNRGBA(0, 0, color.NRGBA{uint8(i), 200, 9, 255})
		f, err := os.Create(filepath.Join(dir, "p"+strconv.Itoa(i)+".png"))
		require.NoError(t, err)
		require.NoError(t, png.Encode(f, m))
		require.NoError(t, f.Close())
	}
	return dir
}

func onFolder(dir string, more ...string) []string {
	return append([]string{"--set", "data.name=folder", "--set", "data.dir=" + dir, "--set", "model.in_channels=3"}, more...)
}

// A folder trains to the same bits on any number of workers; what is not used is
// counted and listed; images that cannot be used are refused in one line before
// anything is written, or left out.
func TestRunOnFolder(t *testing.T) {
	t.Parallel()
	images := photos(t, 6)
	write := func(name string) string {
		path := filepath.Join(images, name)
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		return path
	}
	write("labels.csv")
	require.NoError(t, os.Symlink(photos(t, 3), filepath.Join(images, "more")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(images, "pipe.png"), 0o600))
	bad := write("caf\xe9.png")
	root := t.TempDir()

	dir := filepath.Join(root, "refused")
	p := run(t, training(dir, onFolder(images)...)...)
	refused(t, p, exitConfig, "pipe.png: not a regular file, a named pipe", "data.corrupt=skip")
	require.NoDirExists(t, dir)

	digests := map[string]string{}
	for _, workers := range []string{"1", "2", "3"} {
		dir := filepath.Join(root, workers)
		p := run(t, training(dir, onFolder(images, "--workers", workers, "--set", "data.corrupt=skip")...)...).ended(exitOK)
		digests[workers] = finish(t, dir).ModelDigest
		require.Contains(t, p.stderr.String(), "data: 9 images; not used: ")
		list, err := os.ReadFile(filepath.Join(dir, "data", "skipped.txt"))
		require.NoError(t, err)
		require.Contains(t, string(list), `"caf\xe9.png": format that is not read: no image format that is known`)
		require.Contains(t, string(list), "labels.csv: not an image by its name: .csv")
		require.Equal(t, 3, strings.Count(string(list), "\n"))
	}
	require.Equal(t, digests["1"], digests["2"])
	require.Equal(t, digests["1"], digests["3"])
	require.NoError(t, os.Remove(bad))
	require.NoError(t, os.Remove(filepath.Join(images, "pipe.png")))
	dir = filepath.Join(root, "clean")
	run(t, training(dir, onFolder(images, "--workers", "1")...)...).ended(exitOK)
	require.Equal(t, digests["1"], finish(t, dir).ModelDigest, "as if the bad ones had never been there")
}

// Other images than a run began with are refused, at a resume and in its middle;
// never a restart.
func TestFolderChanges(t *testing.T) {
	t.Parallel()
	images := photos(t, 6)
	dir := filepath.Join(t.TempDir(), "run")
	run(t, training(dir, onFolder(images)...)...).ended(exitOK)
	extra := filepath.Join(images, "q.png")
	text, err := os.ReadFile(filepath.Join(images, "p1.png"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(extra, text, 0o600))
	p := run(t, training(dir, onFolder(images, "--set", "train.steps=64")...)...)
	refused(t, p, exitConfig, "data.fingerprint is 7-", "the checkpoint has 6-")
	p = run(t, "run", "-c", filepath.Join(dir, "config.yaml"))
	refused(t, p, exitConfig, "have changed", "data.fingerprint")
	require.NoError(t, os.Remove(extra))

	// Many steps, so that the run is still going when an image goes.
	p = start(t, training(dir, onFolder(images, "--set", "train.steps=100000", "--workers", "2")...)...)
	p.step(dir, 40)
	require.NoError(t, os.Rename(filepath.Join(images, "p3.png"), filepath.Join(images, "gone")))
	// All images are in the workers' memory by now: they need the file no more.
	p.step(dir, lastStep(t, events(t, dir)).Step+2)
	p.signal(syscall.SIGTERM)
	p.ended(exitSignal)
	p = run(t, training(dir, onFolder(images, "--set", "train.steps=100000")...)...)
	refused(t, p, exitConfig, "data.fingerprint is 6-") // the file by its new name has no extension, and is an image
}

// An image that is gone in the middle of a run ends it at once, with its name.
func TestImageGoesWhileTraining(t *testing.T) {
	t.Parallel()
	images := photos(t, 1)
	for i := range 4000 { // more than the steps until then have read
		require.NoError(t, os.Link(filepath.Join(images, "p0.png"), filepath.Join(images, "link"+strconv.Itoa(i)+".png")))
	}
	dir := filepath.Join(t.TempDir(), "run")
	p := start(t, training(dir, onFolder(images, "--set", "train.steps=100000", "--workers", "2")...)...)
	p.step(dir, 1)
	require.NoError(t, os.Rename(images, images+"-gone"))
	t.Cleanup(func() { require.NoError(t, os.Rename(images+"-gone", images)) })
	p.ended(exitConfig)
	require.Regexp(t, `link\d+\.png: not found; it was there when the run started`, p.stderr.String())
	require.Equal(t, 1, starts(t, dir))
	require.Equal(t, 1, strings.Count(p.stderr.String(), "the run failed"))
}

// A node whose folder holds other images is refused by the key, and the run that it
// wanted to join trains on.
func TestNodesWithOtherImages(t *testing.T) {
	t.Parallel()
	images, other, root := photos(t, 6), photos(t, 7), t.TempDir()
	node := func(dir, images string, more ...string) []string {
		return training(filepath.Join(root, dir), append(onFolder(images, "--nodes", "1:2", "--workers", "1", "--set", "train.steps=200", "--set", "cluster.form_wait=1s"), more...)...)
	}
	a := start(t, node("a", images)...)
	join := a.says(`--join (\S+)`)
	b := run(t, node("b", other, "--join", join)...).ended(exitConfig)
	require.Contains(t, b.stderr.String(), "data.fingerprint")
	a.ended(exitOK)
}
