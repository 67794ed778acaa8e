package npz

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// archive is one array with the header and the data given.
func archive(tb testing.TB, head, data string) *File {
	tb.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.Create("x.npy")
	require.NoError(tb, err)
	_, err = io.WriteString(w, "\x93NUMPY\x01\x00"+string([]byte{byte(len(head)), byte(len(head) >> 8)})+head+data)
	require.NoError(tb, err)
	require.NoError(tb, z.Close())
	f, err := New(bytes.NewReader(out.Bytes()), int64(out.Len()))
	require.NoError(tb, err)
	return f
}

func TestTypes(t *testing.T) {
	for descr, data := range map[string]string{
		"|u1": "\x07\xff", "|i1": "\x07\xff", "<u2": "\x07\x00\xff\xff", "<i2": "\x07\x00\xff\xff",
		">u4": "\x00\x00\x00\x07\xff\xff\xff\xff", "<i4": "\x07\x00\x00\x00\xff\xff\xff\xff",
		"<u8": "\x07\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00", ">i8": "\x00\x00\x00\x00\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff\xff\xff",
		"<f4": "\x00\x00\xe0\x40\x00\x00\x80\xbf", ">f8": "\x40\x1c\x00\x00\x00\x00\x00\x00\xbf\xf0\x00\x00\x00\x00\x00\x00",
	} {
		a, err := archive(t, "{'descr': '"+descr+"', 'fortran_order': False, 'shape': (2,), }", data).Open("x")
		require.NoError(t, err, descr)
		require.Equal(t, []int{2}, a.Shape)
		got := make([]float64, 2)
		require.NoError(t, a.Read(got), descr)
		second := map[string]float64{"|u1": 255, "<u2": 65535, ">u4": 1<<32 - 1, "<u8": 65535}
		want := []float64{7, -1}
		if v, ok := second[descr]; ok {
			want[1] = v
		}
		require.Equal(t, want, got, descr)
		require.ErrorIs(t, a.Read(got[:1]), io.EOF)
		require.NoError(t, a.Close())
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ head, data, want string }{
		{"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "x", "Python objects"},
		{"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", "12345678", "Python objects"},
		{"{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }", "xx", "float16"},
		{"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "12345678", "type"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", "12345678", "needs"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", "123456789", "needs"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999, 99999), }", "", "too large"},
		{"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", "", "header"},
		{"{'descr': '<f8', 'fortran_order': False}", "", "header"},
		{"__import__('os')", "", "header"},
	} {
		_, err := archive(t, c.head, c.data).Open("x")
		require.ErrorContains(t, err, c.want, c.head)
		require.NotContains(t, err.Error(), "\n")
	}
	f := archive(t, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", "x")
	_, err := f.Open("mu")
	require.ErrorIs(t, err, ErrMissing)
	require.ErrorContains(t, err, "it has x")

	_, err = Open("../testdata/golden.py")
	require.ErrorIs(t, err, ErrFormat)
	_, err = Open(filepath.Join(t.TempDir(), "none.npz"))
	require.ErrorIs(t, err, os.ErrNotExist)
	objects, err := Open("../testdata/object.npz") // NumPy's own
	require.NoError(t, err)
	defer objects.Close()
	_, err = objects.Open("mu")
	require.ErrorIs(t, err, ErrObjects)
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"statistics.npz", "object.npz"} {
		b, err := os.ReadFile(filepath.Join("../testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		file, err := New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			a, err := file.Open(name)
			if err != nil {
				continue
			}
			chunk := make([]float64, 1024)
			for a.Len() > 0 && a.Read(chunk[:min(1024, a.Len())]) == nil { //nolint:revive // reading is the body
			}
			_ = a.Close()
		}
	})
}

// FuzzHeader feeds the header alone, past the archive's checksums.
func FuzzHeader(f *testing.F) {
	f.Add("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }")
	f.Add("{'descr': '|O', 'fortran_order': True, 'shape': (), }")
	f.Fuzz(func(t *testing.T, text string) {
		var a Array
		if err := a.header(text); err != nil {
			return
		}
		n := int64(1)
		for _, d := range a.Shape {
			if d < 0 {
				t.Fatalf("dimension %d in %v", d, a.Shape)
			}
			n *= int64(d)
		}
		if n != a.left {
			t.Fatalf("%d elements for shape %v", a.left, a.Shape)
		}
	})
}
