package data

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// record is a record whose red, green and blue planes are r, g, b plus the
// pixel's column.
func record(label, r, g, b byte) []byte {
	out := []byte{label}
	for _, base := range []byte{r, g, b} {
		for i := range recordPlane {
			out = append(out, base+byte(i%recordSide))
		}
	}
	return out
}

// writeCIFAR10 writes the six files. They are sparse: zeros, but for the first
// and the last record of each.
func writeCIFAR10(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o750))
	for i, name := range []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"} {
		f, err := os.Create(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, f.Truncate(cifar10FileRecords*recordLen))
		_, err = f.WriteAt(record(byte(i+1), byte(10*i), 100, 200), 0)
		require.NoError(t, err)
		_, err = f.WriteAt(record(9, byte(10*i), 50, 150), (cifar10FileRecords-1)*recordLen)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
}

func TestCIFAR10(t *testing.T) {
	dir := t.TempDir()
	writeCIFAR10(t, filepath.Join(dir, "cifar-10-batches-bin"))
	inner := filepath.Join(dir, "cifar-10-batches-bin")
	for _, c := range []struct {
		dir, split string
		files      []int
	}{
		{dir, "", []int{0, 1, 2, 3, 4}},
		{inner, SplitAll, []int{0, 1, 2, 3, 4, 5}},
		{inner, SplitTest, []int{5}},
	} {
		d, err := Open(Config{Name: CIFAR10, Dir: c.dir, Split: c.split, Size: 32, Channels: 3})
		require.NoError(t, err)
		require.Equal(t, 10_000*len(c.files), d.Len())
		image := make([]float32, 32*32*3)
		for position, file := range c.files {
			first := position * 10_000
			require.Equal(t, file+1, d.Label(first))
			require.Equal(t, 9, d.Label(first+9999))
			require.Equal(t, 0, d.Label(first+1))

			require.NoError(t, d.Read(image, first))
			pixel := (5*32 + 7) * 3 // row 5, column 7
			for i, base := range []int{10 * file, 100, 200} {
				require.InDelta(t, float64(base+7)/127.5-1, image[pixel+i], 1e-6)
			}
			require.NoError(t, d.Read(image, first+9999))
			require.InDelta(t, 50/127.5-1, image[1], 1e-6)
			require.NoError(t, d.Read(image, first+1))
			require.InDelta(t, -1, image[100], 0)
		}
		require.NoError(t, Close(d))
		require.NoError(t, Close(d))
		require.ErrorIs(t, d.Read(image, 0), os.ErrClosed)
	}
}

func TestCIFAR10Errors(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Config{Name: CIFAR10, Dir: filepath.Join(dir, "nowhere")})
	var missing *MissingError
	require.ErrorAs(t, err, &missing)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, part := range []string{"nowhere/data_batch_1.bin", CIFAR10URL, CIFAR10SHA256, "data.dir"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "\n")

	writeCIFAR10(t, dir)
	corrupt := func(name string, offset int64, reason string) {
		t.Helper()
		_, err := Open(Config{Name: CIFAR10, Dir: dir, Split: SplitAll})
		var c *CorruptError
		require.ErrorAs(t, err, &c)
		require.Equal(t, filepath.Join(dir, name), c.Path)
		require.Equal(t, offset, c.Offset)
		require.ErrorContains(t, err, reason)
		require.ErrorContains(t, err, CIFAR10SHA256)
		require.NotContains(t, err.Error(), "\n")
	}
	third := filepath.Join(dir, "data_batch_3.bin")
	f, err := os.OpenFile(third, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{10}, 77*recordLen)
	require.NoError(t, err)
	corrupt("data_batch_3.bin", 77*recordLen, "byte 236621: label 10; it must be 0 to 9")
	require.NoError(t, f.Truncate(cifar10FileRecords*recordLen-1))
	corrupt("data_batch_3.bin", 30_729_999, "byte 30729999: the file ends here; it must have 30730000 bytes")
	require.NoError(t, f.Truncate(cifar10FileRecords*recordLen+5))
	corrupt("data_batch_3.bin", 30_730_000, "continues after its 10000 records")
	require.NoError(t, f.Close())
	require.NoError(t, os.Remove(third))
	_, err = Open(Config{Name: CIFAR10, Dir: dir})
	require.ErrorAs(t, err, &missing)
	require.ErrorContains(t, err, "data_batch_3.bin")

	_, err = Open(Config{Name: CIFAR10, Dir: dir, Split: SplitTest, Size: 8, Channels: 1})
	require.ErrorContains(t, err, "cifar10 test has images of size 32 with 3 channels, not of size 8 with 1: set model.sample_size 32")
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, parts ...[]byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), bytes.Join(parts, nil), 0o600))
	}
	open := func() (Dataset, error) { return Open(Config{Name: Records, Dir: dir}) }
	_, err := open()
	require.ErrorContains(t, err, "*.bin: not found")
	write("readme.txt", []byte("x"))
	write("b.bin", record(255, 1, 2, 3))
	write("a.bin", record(0, 11, 2, 3), record(1, 21, 2, 3), record(2, 31, 2, 3))
	d, err := open()
	require.NoError(t, err)
	require.Equal(t, 4, d.Len())
	require.Equal(t, 255, d.Label(3))
	image := make([]float32, 3072)
	for i, red := range []float64{11, 21, 31, 1} {
		require.NoError(t, d.Read(image, i))
		require.InDelta(t, red/127.5-1, image[0], 1e-6)
	}
	require.NoError(t, Verify(t.Context(), d))
	require.NoError(t, os.Truncate(filepath.Join(dir, "a.bin"), recordLen+10))
	err = Verify(t.Context(), d)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, int64(recordLen+10), corrupt.Offset)
	require.NoError(t, Close(d))

	_, err = open()
	require.ErrorContains(t, err, "byte 3073: the last record is cut off after 10 of 3073 bytes")
	write("a.bin")
	_, err = open()
	require.ErrorContains(t, err, "the file is empty")
	_, err = Open(Config{Name: Records, Dir: filepath.Join(dir, "a.bin")})
	require.ErrorContains(t, err, "set data.dir to a directory")
}

// brokenDisk fails from an offset on.
type brokenDisk struct {
	*bytes.Reader
	from int64
}

var errDisk = errors.New("input/output error")

func (b brokenDisk) ReadAt(p []byte, offset int64) (int, error) {
	if room := b.from - offset; room < int64(len(p)) {
		n, _ := b.Reader.ReadAt(p[:max(room, 0)], offset)
		return n, errDisk
	}
	return b.Reader.ReadAt(p, offset)
}

func TestScanLabelsReportsReadFailures(t *testing.T) {
	file := bytes.Repeat(record(1, 0, 0, 0), 200)
	_, err := scanLabels(nil, brokenDisk{bytes.NewReader(file), 400_000}, int64(len(file)), "f", recordLimits{maxLabel: 9})
	require.ErrorIs(t, err, errDisk)
	require.ErrorContains(t, err, "f: byte 400000: cannot be read: input/output error")
}

// The file is made from its labels and a tail: what the reader decides on. (The
// fuzzer finds little in whole files of 3073 bytes a record.)
func FuzzScanLabels(f *testing.F) {
	f.Add([]byte{}, uint16(0), uint8(0), byte(9))
	f.Add([]byte{3}, uint16(0), uint8(1), byte(9))
	f.Add([]byte{3, 12}, uint16(0), uint8(0), byte(9))
	f.Add([]byte{3, 4}, uint16(100), uint8(2), byte(9))
	f.Fuzz(func(t *testing.T, recordLabels []byte, tail uint16, want uint8, maxLabel byte) {
		recordLabels = recordLabels[:min(len(recordLabels), 100)]
		var file []byte
		for _, label := range recordLabels {
			file = append(append(file, label), make([]byte, recordLen-1)...)
		}
		file = append(file, make([]byte, tail)...)
		for range int(tail) / recordLen { // a tail of whole records has label 0
			recordLabels = append(recordLabels, 0)
		}
		labels, err := scanLabels(nil, bytes.NewReader(file), int64(len(file)), "f.bin",
			recordLimits{records: int(want), maxLabel: maxLabel, fix: "fix it"})
		whole := len(file) > 0 && len(file)%recordLen == 0 && (want == 0 || int(want) == len(recordLabels))
		if whole && (len(recordLabels) == 0 || slices.Max(recordLabels) <= maxLabel) {
			require.NoError(t, err)
			require.Equal(t, recordLabels, labels)
			return
		}
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.True(t, corrupt.Offset >= 0 && corrupt.Offset <= int64(len(file)))
	})
}
