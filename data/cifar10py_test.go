package data

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// pickledBatch is a file as Python 2 wrote those that are distributed: protocol 2,
// strings of bytes, the array by _reconstruct and BUILD.
func pickledBatch(labels []byte, pixels []byte) []byte {
	var b bytes.Buffer
	short := func(s string) { b.WriteString("U" + string(rune(len(s))) + s) }
	b.WriteString("\x80\x02}q\x01(")
	short("batch_label")
	short("training batch 1 of 5")
	short("labels")
	b.WriteString("]q\x02(")
	for _, l := range labels {
		b.Write([]byte{'K', l})
	}
	b.WriteString("e")
	short("data")
	b.WriteString("cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01")
	b.WriteString("M")
	_ = binary.Write(&b, binary.LittleEndian, uint16(len(labels)))
	b.WriteString("M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T")
	_ = binary.Write(&b, binary.LittleEndian, uint32(len(pixels)))
	b.Write(pixels)
	b.WriteString("tb")
	short("filenames")
	b.WriteString("](")
	for range labels {
		short("x.png")
	}
	b.WriteString("eu.")
	return b.Bytes()
}

func writePythonCIFAR10(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o750))
	for _, name := range cifar10Names(SplitTest) {
		const i = 5 // the sixth file of writeCIFAR10
		labels, pixels := make([]byte, cifar10FileRecords), make([]byte, cifar10FileRecords*3*recordPlane)
		labels[0], labels[len(labels)-1] = i+1, 9
		copy(pixels, record(0, 10*i, 100, 200)[1:])
		copy(pixels[len(pixels)-3*recordPlane:], record(0, 10*i, 50, 150)[1:])
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pickledBatch(labels, pixels), 0o600))
	}
}

// The Python version gives the images, labels and fingerprint of the binary one.
func TestCIFAR10Python(t *testing.T) {
	binaryDir, pythonDir := t.TempDir(), t.TempDir()
	writeCIFAR10(t, binaryDir)
	writePythonCIFAR10(t, filepath.Join(pythonDir, "cifar-10-batches-py"))
	want := openTest(t, Config{Name: CIFAR10, Dir: binaryDir, Split: SplitTest})
	got := openTest(t, Config{Name: CIFAR10, Dir: pythonDir, Split: SplitTest, Size: 32, Channels: 3})
	require.Equal(t, want.Len(), got.Len())
	require.Equal(t, Fingerprint(want), Fingerprint(got))
	a, b := make([]float32, 3072), make([]float32, 3072)
	for _, i := range []int{0, 1, 9998, 9999} {
		require.Equal(t, want.Label(i), got.Label(i))
		require.NoError(t, want.Read(a, i))
		require.NoError(t, got.Read(b, i))
		require.Equal(t, a, b)
	}
}

// Current versions of Python and NumPy (testdata/make.py).
func TestPickleProtocols(t *testing.T) {
	for _, name := range []string{"batch-p3", "batch-p4", "batch-p5"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		base, labels, err := parsePickledBatch(bytes.NewReader(text), int64(len(text)), recordLimits{maxLabel: 9})
		require.NoError(t, err, name)
		require.Equal(t, []byte{3, 9}, labels)
		for i := range 2 {
			for p := range 3072 {
				require.Equal(t, byte(i*7+p*5), text[base+int64(i)*3072+int64(p)])
			}
		}
	}
}

func TestPickleRefusals(t *testing.T) {
	good := pickledBatch([]byte{1, 2}, make([]byte, 2*3072))
	replace := func(old, now string) []byte { return bytes.Replace(good, []byte(old), []byte(now), 1) }
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"empty":           {nil, "ends early"},
		"two bytes":       {[]byte("\x80\x02"), "ends early"},
		"cut":             {good[:len(good)-4000], "ends early"},
		"cut at the end":  {good[:len(good)-1], "ends early"},
		"a call":          {[]byte("cos\nsystem\nU\x02ls\x85R."), `it calls "os system"`},
		"object":          {[]byte("ccollections\nOrderedDict\n)R."), "it calls"},
		"not a dict":      {[]byte("]."), "no dict"},
		"text":            {[]byte("hello"), "not a pickle"},
		"shape":           {replace("M\x02\x00M\x00\x0c", "M\x03\x00M\x00\x0c"), "no array of 2 x 3072"},
		"type":            {replace("U\x02u1", "U\x02i1"), "no array"},
		"order":           {replace("\x89T", "\x88T"), "no array"},
		"label":           {replace("K\x01K\x02e", "K\x01K\x0ae"), "image 1 has label 10; it must be 0 to 9"},
		"label a string":  {replace("K\x01K\x02e", "NK\x02e"), "image 0 has label"},
		"labels missing":  {replace("U\x06labels", "U\x06Labels"), "no data and labels"},
		"CIFAR-100":       {replace("U\x06labels", "U\x0bfine_labels"), "CIFAR-100"},
		"underflow":       {[]byte("\x87."), "not a pickle"},
		"no mark":         {[]byte("}u."), "not a pickle"},
		"memo":            {[]byte("h\x09."), "not a pickle"},
		"a huge string":   {[]byte("T\xff\xff\xff\x7fabc."), "ends early"},
		"a list in a row": {append(bytes.Repeat([]byte("]"), pickleStack+2), '.'), "values"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parsePickledBatch(bytes.NewReader(c.text), int64(len(c.text)), recordLimits{maxLabel: 9})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
	// As a data set: named, with what to do.
	dir := t.TempDir()
	for _, name := range cifar10Names(SplitTrain) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("\x80\x02"), 0o600))
	}
	_, err := Open(Config{Name: CIFAR10, Dir: dir})
	require.ErrorContains(t, err, "data_batch_1: cannot be used: ")
	require.ErrorContains(t, err, "agrdist data get cifar10")
}

// An archive is no directory; the message says how to unpack it.
func TestCIFAR10Packed(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "cifar-10-python.tar.gz")
	require.NoError(t, os.WriteFile(archive, []byte("\x1f\x8b"), 0o600))
	for _, at := range []string{dir, archive} {
		_, err := Open(Config{Name: CIFAR10, Dir: at})
		require.ErrorContains(t, err, archive+` is packed; unpack it with: agrdist data get cifar10 --from "`+archive)
	}
}

func FuzzUnpickle(f *testing.F) {
	f.Add(pickledBatch([]byte{1, 2}, make([]byte, 2*3072))[:600])
	for _, name := range []string{"batch-p3", "batch-p4", "batch-p5"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte("\x80\x02}(K\x01I23\n\x8a\x02\xff\xffdlt."))
	f.Fuzz(func(t *testing.T, text []byte) {
		base, labels, err := parsePickledBatch(bytes.NewReader(text), int64(len(text)), recordLimits{maxLabel: 9})
		if err != nil {
			return
		}
		require.LessOrEqual(t, base+int64(len(labels))*3*recordPlane, int64(len(text)))
		for _, l := range labels {
			require.LessOrEqual(t, l, byte(9))
		}
	})
}
