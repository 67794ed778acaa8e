package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
)

// file puts a length prefix before the header text and data zero bytes after.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func TestAccepted(t *testing.T) {
	for name, b := range map[string][]byte{
		"no tensors":             file(`{}`, 0),
		"only metadata":          file(`{"__metadata__":{"a":"b"}}`, 0),
		"space padding":          file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}     `, 2),
		"fields in any order":    file(`{"a":{"data_offsets":[0,2],"dtype":"U8","shape":[2]}}`, 2),
		"spaces inside":          file(`{ "a" : { "dtype":"U8", "shape":[ 2 ], "data_offsets":[0, 2]} }`, 2),
		"header not in order":    file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2),
		"empty tensors anywhere": file(`{"e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},"d":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1),
		"unaligned float":        file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[],"data_offsets":[1,5]}}`, 5),
	} {
		f, err := safetensors.Parse(b)
		require.NoError(t, err, name)
		for _, n := range f.Names() {
			_, _, err := f.Float32(n)
			require.NoError(t, err, name)
		}
	}
}

func TestRejected(t *testing.T) {
	u8 := func(name string, begin, end int) string {
		return fmt.Sprintf(`%q:{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, name, end-begin, begin, end)
	}
	one := func(dtype, shape string, end int) []byte {
		return file(fmt.Sprintf(`{"a":{"dtype":%q,"shape":%s,"data_offsets":[0,%d]}}`, dtype, shape, end), end)
	}
	huge := binary.LittleEndian.AppendUint64(nil, safetensors.MaxHeader+1)
	for _, c := range []struct {
		name string
		file []byte
		key  string
		want string
	}{
		{"nothing", nil, "", "its first number alone takes 8"},
		{"seven bytes", make([]byte, 7), "", "its first number alone takes 8"},
		{"header too long", append(huge, '{'), "", "at most 100000000"},
		{"length 2^64-1", bytes.Repeat([]byte{0xff}, 16), "", "at most 100000000"},
		{"header past the end", binary.LittleEndian.AppendUint64(nil, 10), "", "cut short"},
		{"empty header", file("", 0), "", "does not start with '{'"},
		{"leading space", file(" {}", 0), "", "does not start with '{'"},
		{"an array", file("[]", 0), "", "does not start with '{'"},
		{"not UTF-8", file("{\"\xff\":{}}", 0), "", "not UTF-8"},
		{"bad JSON", file(`{"a"}`, 0), "a", "not valid JSON"},
		{"cut JSON", file(`{"a":{"dtype":"U8"`, 0), "a", "cut short"},
		{"text after the object", file(`{} x`, 0), "", "something other than spaces"},
		{"second object", file(`{}{}`, 0), "", "something other than spaces"},
		{"newline padding", file("{}\n", 0), "", "something other than spaces"},
		{"NUL padding", file("{}\x00", 0), "", "something other than spaces"},
		{"duplicate tensor", file("{"+u8("a", 0, 1)+","+u8("a", 1, 2)+"}", 2), "a", `"a" occurs twice`},
		{"duplicate, escaped", file("{"+u8("a", 0, 1)+`,"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), "a", "occurs twice"},
		{"duplicate metadata object", file(`{"__metadata__":{},"__metadata__":{}}`, 0), "__metadata__", "occurs twice"},
		{"duplicate metadata key", file(`{"__metadata__":{"k":"1","k":"2"}}`, 0), "__metadata__", `"k" occurs twice`},
		{"duplicate field", file(`{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, 1), "a", `"dtype" occurs twice`},
		{"metadata number", file(`{"__metadata__":{"k":1}}`, 0), "__metadata__", "a string"},
		{"metadata object", file(`{"__metadata__":{"k":{}}}`, 0), "__metadata__", "a string"},
		{"metadata null", file(`{"__metadata__":null}`, 0), "__metadata__", "an object of strings expected"},
		{"metadata list", file(`{"__metadata__":[]}`, 0), "__metadata__", "an object of strings expected"},
		{"tensor null", file(`{"a":null}`, 0), "a", "expected"},
		{"missing field", file(`{"a":{"dtype":"U8","shape":[1]}}`, 1), "a", "is missing"},
		{"unknown field", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"stride":[1]}}`, 1), "a", `unknown field "stride"`},
		{"unknown dtype", one("F8_E4M3", "[1]", 1), "a", `unknown dtype "F8_E4M3"`},
		{"dtype in lower case", one("f32", "[1]", 4), "a", "unknown dtype"},
		{"dtype number", file(`{"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}`, 1), "a", "a string as dtype"},
		{"negative dimension", one("U8", "[-1]", 1), "a", "not an integer"},
		{"fractional dimension", one("U8", "[1.0]", 1), "a", "not an integer"},
		{"exponent", one("U8", "[1e0]", 1), "a", "not an integer"},
		{"dimension string", one("U8", `["1"]`, 1), "a", "an integer expected"},
		{"dimension 2^63", one("U8", "[9223372036854775808]", 1), "a", "not an integer"},
		{"shape null", one("U8", "null", 1), "a", "an array expected"},
		{"shape overflow", one("U8", "[4294967296,4294967296]", 0), "a", "overflows"},
		{"shape overflow undone by 0", one("U8", "[4294967296,4294967296,0]", 0), "a", "overflows"},
		{"size overflow", one("F64", "[2305843009213693952]", 0), "a", "overflows"},
		{"size wraps to 0", one("F64", "[4611686018427387904,4]", 0), "a", "overflows"},
		{"too few bytes for the shape", one("F32", "[2]", 7), "a", "needs 8 bytes, data_offsets give 7"},
		{"too many bytes for the shape", one("F32", "[]", 8), "a", "needs 4 bytes, data_offsets give 8"},
		{"one offset", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`, 1), "a", "not 2"},
		{"three offsets", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), "a", "not 2"},
		{"offsets reversed", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), "a", "end before they begin"},
		{"offset 2^64", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]}}`, 1), "a", "not an integer"},
		{"begin near 2^63", file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`, 0), "a", "hole"},
		{"hole at the start", file("{"+u8("a", 1, 2)+"}", 2), "a", "hole"},
		{"hole", file("{"+u8("a", 0, 1)+","+u8("b", 2, 3)+"}", 3), "b", "hole"},
		{"overlap", file("{"+u8("a", 0, 2)+","+u8("b", 1, 3)+"}", 3), "b", "overlap"},
		{"same bytes twice", file("{"+u8("a", 0, 2)+","+u8("b", 0, 2)+"}", 2), "b", "overlap"},
		{"empty tensor inside another", file("{"+u8("a", 0, 2)+`,"e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, 2), "e", "overlap"},
		{"data cut short", file("{"+u8("a", 0, 4)+"}", 3), "a", "cut short"},
		{"bytes left over", file("{"+u8("a", 0, 4)+"}", 5), "", "1 bytes after the last tensor belong to none"},
		{"bytes without tensors", file(`{}`, 1), "", "belong to none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := safetensors.Parse(c.file)
			require.ErrorIs(t, err, safetensors.ErrInvalid)
			require.ErrorContains(t, err, c.want)
			var fe *safetensors.FormatError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, c.key, fe.Key)
			require.GreaterOrEqual(t, fe.Offset, int64(0))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestErrorsNameFileKeyAndOffset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	head := `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`
	require.NoError(t, os.WriteFile(path, file(head, 3), 0o600))
	for _, open := range []func(string) (*safetensors.File, error){safetensors.ReadFile, safetensors.Open} {
		_, err := open(path)
		require.EqualError(t, err, fmt.Sprintf(
			`safetensors: %s: key "a": at byte %d: the tensor ends at data offset 4, the file holds 3 bytes of data: it is cut short`,
			path, 8+len(head)))
	}
	_, err := safetensors.ReadFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = safetensors.Open(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
}

func TestHostileKeyDoesNotFillTheTerminal(t *testing.T) {
	_, err := safetensors.Parse(file(`{"`+strings.Repeat("k", 1<<20)+`":1}`, 0))
	require.ErrorIs(t, err, safetensors.ErrInvalid)
	require.Less(t, len(err.Error()), 400)
}

func TestTruncationIsAlwaysFound(t *testing.T) {
	b, err := os.ReadFile("testdata/all_dtypes.safetensors")
	require.NoError(t, err)
	for n := range len(b) {
		_, err := safetensors.Parse(b[:n])
		require.ErrorIs(t, err, safetensors.ErrInvalid, "%d bytes", n)
	}
	_, err = safetensors.Parse(append(bytes.Clone(b), 0))
	require.ErrorIs(t, err, safetensors.ErrInvalid)
}

type brokenReader struct {
	data []byte
	from int64
}

var errBroken = errors.New("the disk is on fire")

func (r brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.from {
		return 0, errBroken
	}
	return copy(p, r.data[off:]), nil
}

func TestReadErrorsAreWrapped(t *testing.T) {
	b := file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4)
	for from, where := range map[int]string{4: "reading the header's length", 20: "reading the header", len(b) - 2: "reading the tensor"} {
		f, err := safetensors.NewFile(brokenReader{b, int64(from)}, int64(len(b)))
		if err == nil {
			_, _, err = f.Float32("a")
		}
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, where)
	}
}
