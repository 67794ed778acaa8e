package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/data"
)

type member struct {
	name string
	text []byte
}

// pack makes a tar.gz.
func pack(tb testing.TB, members ...member) []byte {
	tb.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	require.NoError(tb, err)
	w := tar.NewWriter(z)
	for _, m := range members {
		require.NoError(tb, w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.text)), Mode: 0o600, Typeflag: tar.TypeReg}))
		_, err := w.Write(m.text)
		require.NoError(tb, err)
	}
	require.NoError(tb, w.Close())
	require.NoError(tb, z.Close())
	return out.Bytes()
}

// cifar10 has the files of the archive; all pixels of file i are i.
func cifar10() (members []member) {
	const record = 3073
	for i, name := range cifar10Members["cifar-10-batches-bin"][:6] {
		file := bytes.Repeat([]byte{byte(i)}, 10_000*record)
		members = append(members, member{"cifar-10-batches-bin/" + name, file})
	}
	return append(members, member{"cifar-10-batches-bin/batches.meta.txt", []byte("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n")})
}

func archiveFile(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.tar.gz")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// An archive that is here is unpacked, checked and opened; names in it choose no
// place outside.
func TestCIFAR10(t *testing.T) {
	out := filepath.Join(t.TempDir(), "cifar")
	var notes []string
	o := Options{Out: out, Note: func(text string) { notes = append(notes, text) }}
	members := append(cifar10(), member{"../../escape", []byte("x")}, member{"/etc/passwd", []byte("x")}, member{"cifar-10-batches-bin/../../other", []byte("x")})
	good := pack(t, members...)
	o.From = archiveFile(t, good)
	require.NoError(t, CIFAR10(t.Context(), o))
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "is not the archive that is known")
	set, err := data.Open(data.Config{Name: data.CIFAR10, Dir: out, Split: data.SplitTest})
	require.NoError(t, err)
	require.Equal(t, 10_000, set.Len())
	require.Equal(t, 5, set.Label(3))
	require.Equal(t, []string{"airplane", "truck"}, []string{data.ClassesOf(set)[0], data.ClassesOf(set)[9]})
	require.NoError(t, data.Close(set))
	entries, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing beside it")
	require.FileExists(t, o.From, "what the user gave stays")

	o.From = "/no/such"
	require.NoError(t, CIFAR10(t.Context(), o), "it is there already")

	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"no gzip":      {[]byte("<html>"), "is no tar.gz"},
		"cut":          {good[:len(good)/2], "unexpected EOF"},
		"cut tail":     {good[:len(good)-8], "unexpected EOF"},
		"bad checksum": {flip(bytes.Clone(good), -6), "checksum"},
		"another":      {pack(t, member{"x/y", []byte("z")}), "holds no file of CIFAR-10"},
		"too few":      {pack(t, cifar10()[:1]...), "data_batch_2.bin"},
		"short file":   {pack(t, member{"cifar-10-batches-bin/data_batch_1.bin", make([]byte, 3073)}), "data_batch_1.bin: byte 3073"},
		"huge file":    {pack(t, member{"cifar-10-batches-bin/data_batch_1.bin", make([]byte, cifar10MaxMember+1)}), "no file of CIFAR-10"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CIFAR10(t.Context(), Options{Out: t.TempDir(), From: archiveFile(t, c.text)})
			require.ErrorContains(t, err, c.want)
		})
	}
	require.ErrorContains(t, CIFAR10(t.Context(), Options{Out: t.TempDir(), From: t.TempDir()}), "is a directory")
	require.ErrorIs(t, CIFAR10(t.Context(), Options{Out: t.TempDir(), From: "/no/such"}), os.ErrNotExist)
}

func flip(text []byte, at int) []byte {
	text[len(text)+at] ^= 1
	return text
}

// emojiPackage is a package of five entries in a sheet of 2x2 cells.
func emojiPackage(tb testing.TB) (index, sheet []byte) {
	tb.Helper()
	type entry struct {
		Category string `json:"category"`
		X        int    `json:"sheet_x"`
		Y        int    `json:"sheet_y"`
		Has      bool   `json:"has_img_google"`
	}
	index, err := json.Marshal([]entry{{"Symbols", 1, 0, true}, {"Flags", 0, 1, true}, {"Component", 0, 0, true}, {"Objects", 0, 0, false}, {"Flags", 1, 1, true}})
	require.NoError(tb, err)
	m := image.NewNRGBA(image.Rect(0, 0, 2*emojiCell, 2*emojiCell))
	for y := range m.Rect.Dy() {
		for x := range m.Rect.Dx() {
			c := color.NRGBA{uint8(x), uint8(y), 77, 255}
			if x%emojiCell == 0 || y%emojiCell == 0 || x%emojiCell == 1 { // the border, and an image's first column
				c.A = 0
			}
			m.SetNRGBA(x, y, c)
		}
	}
	var out bytes.Buffer
	require.NoError(tb, png.Encode(&out, m))
	return index, out.Bytes()
}

func TestEmoji32(t *testing.T) {
	index, sheet := emojiPackage(t)
	archive := pack(t, member{"package/emoji.json", index}, member{"package/" + emojiSheet, sheet}, member{"package/../../x", nil})
	dir := filepath.Join(t.TempDir(), "node_modules", "emoji-datasource-google")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(emojiSheet)), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, emojiJSON), index, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, emojiSheet), sheet, 0o600))
	for _, from := range []string{archiveFile(t, archive), dir} {
		out := t.TempDir()
		require.NoError(t, Emoji32(t.Context(), Options{Out: out, From: from}))
		set, err := data.Open(data.Config{Name: data.Records, Dir: out})
		require.NoError(t, err)
		require.Equal(t, 3, set.Len())
		require.Equal(t, []string{"Flags", "Symbols"}, data.ClassesOf(set))
		require.Equal(t, []int{1, 0, 0}, []int{set.Label(0), set.Label(1), set.Label(2)})
		pixels := make([]float32, 32*32*3)
		require.NoError(t, set.Read(pixels, 1))
		require.Equal(t, []float32{1, 1, 1}, pixels[:3], "transparent is white")
		at := (5*32 + 7) * 3 // row 5, column 7 of cell (0, 1)
		require.InDeltaSlice(t, []float32{8, 34 + 6, 77}, []float32{(pixels[at] + 1) * 127.5, (pixels[at+1] + 1) * 127.5, (pixels[at+2] + 1) * 127.5}, 1e-3)
		licence, err := os.ReadFile(filepath.Join(out, "LICENSE.txt"))
		require.NoError(t, err)
		require.Contains(t, string(licence), "Apache License, Version 2.0")
		require.NoError(t, data.Close(set))
	}
	for name, c := range map[string]struct {
		index, sheet []byte
		want         string
	}{
		"no JSON":     {[]byte("x"), sheet, "emoji.json"},
		"no PNG":      {index, []byte("x"), "32.png"},
		"no images":   {[]byte("[]"), sheet, "0 categories"},
		"outside":     {bytes.ReplaceAll(index, []byte(`"sheet_y":1`), []byte(`"sheet_y":2`)), sheet, "entry 1 is at column 0, row 2 of a sheet of 2 x 2"},
		"negative":    {bytes.ReplaceAll(index, []byte(`"sheet_x":1`), []byte(`"sheet_x":-1`)), sheet, "entry 0"},
		"other types": {bytes.ReplaceAll(index, []byte(`"sheet_x":1`), []byte(`"sheet_x":"a"`)), sheet, "emoji.json"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Emoji32(t.Context(), Options{Out: t.TempDir(), From: archiveFile(t, pack(t, member{"package/emoji.json", c.index}, member{"package/" + emojiSheet, c.sheet}))})
			require.ErrorContains(t, err, c.want)
		})
	}
	err := Emoji32(t.Context(), Options{Out: t.TempDir(), From: archiveFile(t, pack(t, member{"package/emoji.json", index}))})
	require.ErrorContains(t, err, "it is not the package emoji-datasource-google")
	require.ErrorContains(t, Emoji32(t.Context(), Options{Out: t.TempDir(), From: t.TempDir()}), "not the package emoji-datasource-google")
}

// The whole way through a server, to the refusal of what has not the known
// checksum: nothing is unpacked.
func TestMirror(t *testing.T) {
	url, requests := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mirror/cifar-10-binary.tar.gz" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("not it"))
	})
	out := t.TempDir()
	err := CIFAR10(t.Context(), Options{Out: out, Mirror: strings.TrimSuffix(url, "file.tar.gz") + "mirror/"})
	var checksum *ChecksumError
	require.ErrorAs(t, err, &checksum)
	require.Equal(t, data.CIFAR10SHA256, checksum.Want)
	require.Equal(t, int64(1), requests.Load())
	entries, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func FuzzEmojiRecords(f *testing.F) {
	index, sheet := emojiPackage(f)
	f.Add(index, sheet)
	f.Fuzz(func(t *testing.T, index, sheet []byte) {
		records, classes, err := emojiRecords(index, sheet)
		if err == nil {
			require.Zero(t, len(records)%3073)
			require.NotEmpty(t, classes)
		}
	})
}

func FuzzEachFile(f *testing.F) {
	f.Add(pack(f, member{"a/b", []byte("c")}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, strconv.Itoa(os.Getpid()))
		require.NoError(t, os.WriteFile(path, text, 0o600))
		files := 0
		_ = eachFile(path, func(string, int64, io.Reader) error { // refused or not, it ends
			files++
			return nil
		})
		require.LessOrEqual(t, files, 1<<20)
	})
}
