package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// tree is a directory to be scanned.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) tree {
	t.Helper()
	return tree{t, t.TempDir()}
}

// file writes a file and returns its path.
func (w tree) file(name string, text []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(w.t, os.WriteFile(path, text, 0o600))
	return path
}

func (w tree) png(names ...string) {
	w.t.Helper()
	for i, name := range names {
		w.file(name, encodePNG(w.t, paint(4+i%3, 4, flat(uint8(i), 2, 3, 255))))
	}
}

func (w tree) link(target, name string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(w.t, os.Symlink(target, path))
}

func encodeJPEG(t *testing.T, m image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, jpeg.Encode(&out, m, nil))
	return out.Bytes()
}

func paths(x *Index) (out []string) {
	for _, m := range x.Images {
		out = append(out, m.Path)
	}
	return out
}

// asNobody runs the calling test again as a user who may not read everything,
// where this one may, and says whether it did.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return false
	}
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "nobody") //nolint:usetesting // t.TempDir is below a directory that is closed to others
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test"), self, 0o755))
	c := exec.CommandContext(t.Context(), filepath.Join(dir, "test"), "-test.run=^"+t.Name()+"$", "-test.v")
	c.Dir = dir
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return true
}

// What is refused and what is passed over, by kind: the folder has two good images
// besides.
func TestScanByKind(t *testing.T) {
	photo := encodeJPEG(t, paint(32, 32, func(x, y int) color.NRGBA { return color.NRGBA{uint8(x * y), uint8(7 * x), uint8(9 * y), 255} }))
	picture := encodePNG(t, paint(9, 9, func(x, y int) color.NRGBA { return color.NRGBA{uint8(x * 20), uint8(y * 20), 9, 255} }))
	badCRC := bytes.Clone(picture)
	badCRC[len(badCRC)-12-6] ^= 1 // zlib's checksum of the pixels
	for name, c := range map[string]struct {
		make   func(w tree)
		reason Reason // why the file is not used; empty: it is
		detail string
		fault  bool
	}{
		"empty":              {make: func(w tree) { w.file("x.png", nil) }, reason: SkipEmpty, detail: "empty", fault: true},
		"half a PNG":         {make: func(w tree) { w.file("x.png", picture[:len(picture)/2]) }, reason: SkipDamaged, detail: "PNG that ends early", fault: true},
		"half a JPEG":        {make: func(w tree) { w.file("x.jpg", photo[:len(photo)/2]) }, reason: SkipDamaged, detail: "JPEG", fault: true},
		"PNG checksum":       {make: func(w tree) { w.file("x.png", badCRC) }, reason: SkipDamaged, detail: "checksum", fault: true},
		"text as an image":   {make: func(w tree) { w.file("x.png", []byte("not found")) }, reason: SkipNotRead, detail: "no image format", fault: true},
		"HEIC":               {make: func(w tree) { w.file("x.heic", []byte("\x00\x00\x00\x18ftypheic    ")) }, reason: SkipNotRead, detail: "HEIC", fault: true},
		"pipe":               {make: func(w tree) { mkfifo(w, "x.png") }, reason: SkipSpecial, detail: "a named pipe", fault: true},
		"pipe, no extension": {make: func(w tree) { mkfifo(w, "x") }, reason: SkipSpecial, detail: "a named pipe", fault: true},
		"link to a pipe":     {make: func(w tree) { mkfifo(w, ".pipe"); w.link(".pipe", "x.png") }, reason: SkipSpecial, detail: "a named pipe", fault: true},
		"socket":             {make: func(w tree) { listen(w, "x.jpg") }, reason: SkipSpecial, detail: "a socket", fault: true},
		"link to a device":   {make: func(w tree) { w.link("/dev/zero", "x.png") }, reason: SkipSpecial, detail: "a device", fault: true},
		"dangling link":      {make: func(w tree) { w.link("nowhere", "x.png") }, reason: SkipDangling, detail: "nowhere", fault: true},
		"link to itself":     {make: func(w tree) { w.link("x.png", "x.png") }, reason: SkipDangling, detail: "symbolic links", fault: true},
		"other name":         {make: func(w tree) { w.file("x.txt", []byte("labels")) }, reason: SkipOther, detail: ".txt"},
		"no image, no name":  {make: func(w tree) { w.file("README", []byte("read me")) }, reason: SkipNoImage},
		"empty, no name":     {make: func(w tree) { w.file("done", nil) }, reason: SkipNoImage},
		"hidden":             {make: func(w tree) { w.file("._x.png", []byte("resource fork")) }, reason: SkipHidden},
		"hidden directory":   {make: func(w tree) { w.png(".thumbnails/x.png") }, reason: SkipHidden},
		"link back":          {make: func(w tree) { w.link("..", "sub/x") }, reason: SkipSeen, detail: "is "},
		"pipe, other name":   {make: func(w tree) { mkfifo(w, "x.sock") }, reason: SkipOther},

		"WebP as JPEG":        {make: func(w tree) { w.file("x.jpg", testdata(w.t, "lossy.webp")) }},
		"PNG as GIF":          {make: func(w tree) { w.file("x.gif", picture) }},
		"PNG without a name":  {make: func(w tree) { w.file("x", picture) }},
		"capital extension":   {make: func(w tree) { w.file("x.JPEG", photo) }},
		"no end marker":       {make: func(w tree) { w.file("x.jpg", photo[:len(photo)-2]) }},
		"animated PNG":        {make: func(w tree) { w.file("x.apng", testdata(w.t, "anim.png")) }},
		"animated WebP":       {make: func(w tree) { w.file("x.webp", testdata(w.t, "anim-lossy.webp")) }},
		"GIF":                 {make: func(w tree) { w.file("x.gif", testdata(w.t, "anim.gif")) }},
		"TIFF":                {make: func(w tree) { w.file("x.tif", testdata(w.t, "lzw.tiff")) }},
		"BMP":                 {make: func(w tree) { w.file("x.bmp", testdata(w.t, "palette.bmp")) }},
		"link to a file":      {make: func(w tree) { w.link("../good0.png", "sub/x.png") }},
		"link to a directory": {make: func(w tree) { other := newTree(w.t); other.png("x.png"); w.link(other.dir, "sub") }},
		"name not UTF-8":      {make: func(w tree) { w.png("caf\xe9.png") }},
		"newline in a name":   {make: func(w tree) { w.png("a\nb\t.png") }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTree(t)
			w.png("good0.png", "good1.png")
			c.make(w)
			x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
			if c.fault {
				var refused *FaultsError
				require.ErrorAs(t, err, &refused)
				require.Len(t, refused.Faults, 1)
				require.Equal(t, c.reason, refused.Faults[0].Reason)
				require.ErrorContains(t, err, "x")
				require.ErrorContains(t, err, c.detail)
				require.ErrorContains(t, err, "data.corrupt=skip")
				require.NotContains(t, err.Error(), "\n")

				x, err = Scan(t.Context(), ScanConfig{Dir: w.dir, Corrupt: CorruptSkip})
			}
			require.NoError(t, err)
			want := 3
			if c.reason != "" {
				want = 2
				i := slices.IndexFunc(x.Skipped, func(s Skip) bool { return s.Reason == c.reason })
				require.GreaterOrEqual(t, i, 0, "%v", x.Skipped)
				require.Contains(t, x.Skipped[i].Detail, c.detail)
			}
			require.Len(t, x.Images, want)
			d, err := Open(Config{Name: Folder, Dir: w.dir, Size: 4, Channels: 3, Index: x})
			require.NoError(t, err)
			require.NoError(t, Verify(t.Context(), d))
		})
	}
	t.Run("bomb", func(t *testing.T) {
		w := newTree(t)
		w.png("good0.png")
		w.file("x.png", bomb())
		_, err := Scan(t.Context(), ScanConfig{Dir: w.dir, Verify: VerifyHeader})
		require.ErrorContains(t, err, "x.png: 20000 x 20000 pixels are more than the 67108864 that are read")
	})
}

func mkfifo(w tree, name string) {
	w.t.Helper()
	require.NoError(w.t, syscall.Mkfifo(filepath.Join(w.dir, name), 0o600))
}

func listen(w tree, name string) {
	w.t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(w.dir, name), Net: "unix"})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = l.Close() })
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("imagefile", "testdata", name))
	require.NoError(t, err)
	return text
}

// bomb is a PNG of 20000x20000 pixels in a few bytes: its pixels are missing, and
// nobody should get as far as that.
func bomb() []byte {
	header := []byte("IHDR\x00\x00\x4e\x20\x00\x00\x4e\x20\x01\x00\x00\x00\x00")
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(header))
}

// A file of mode 000 is refused at once; a directory like lost+found is passed
// over, whose ever it is.
func TestScanWithoutPermission(t *testing.T) {
	if asNobody(t) {
		return
	}
	w := newTree(t)
	w.png("good.png", "lost+found/hidden.png")
	require.NoError(t, os.Chmod(filepath.Join(w.dir, "lost+found"), 0))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(w.dir, "lost+found"), 0o700) })
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	require.Equal(t, []string{"good.png"}, paths(x))
	require.Equal(t, []Skip{{"lost+found", SkipDirectory, "permission denied"}}, x.Skipped)

	w.png("secret.png")
	require.NoError(t, os.Chmod(filepath.Join(w.dir, "secret.png"), 0))
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.ErrorContains(t, err, w.dir+": an image cannot be used: secret.png: permission denied")
}

// Loops of links end, every real directory is read once, by its own name where it
// has one; and whatever the order of names is, the list is the same.
func TestScanLinks(t *testing.T) {
	w := newTree(t)
	w.png("a/1.png", "b/2.png", "c/d/3.png")
	w.link("../b", "a/to-b")
	w.link("../a", "b/to-a")
	w.link(".", "self")
	w.link("..", "c/up")
	w.link("c", "0-first") // sorts before c, and does not take its name
	for i := range 12 {    // all to all: every path of links would be 12! walks
		for j := range 12 {
			w.link(filepath.Join("..", "..", "all", string(rune('a'+j))), filepath.Join("all", string(rune('a'+i)), string(rune('a'+j))))
		}
	}
	outside := newTree(t)
	outside.png("4.png", "deep/5.png")
	w.link(outside.dir, "e")
	w.link(filepath.Join(outside.dir, "deep"), "f")
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	require.Equal(t, []string{"a/1.png", "b/2.png", "c/d/3.png", "e/4.png", "f/5.png"}, paths(x))
	for _, s := range x.Skipped {
		require.Equal(t, SkipSeen, s.Reason, s.Path)
	}
	// The folder itself may be a link.
	w.link(outside.dir, "root")
	x, err = Scan(t.Context(), ScanConfig{Dir: filepath.Join(w.dir, "root")})
	require.NoError(t, err)
	require.Equal(t, []string{"4.png", "deep/5.png"}, paths(x))
}

// Whole paths are sorted, not folder by folder: "a.png" comes after "a-b/".
func TestScanOrder(t *testing.T) {
	w := newTree(t)
	w.png("a.png", "a/1.png", "a-b/1.png", "Z.png", "a/10.png", "a/2.png")
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	require.Equal(t, []string{"Z.png", "a-b/1.png", "a.png", "a/1.png", "a/10.png", "a/2.png"}, paths(x))
	labels, classes := x.Labels()
	require.Nil(t, labels)
	require.Nil(t, classes)
}

// With many faults, one line says how many of which kind, and names one.
func TestScanCountsFaults(t *testing.T) {
	w := newTree(t)
	w.png("good.png")
	for _, name := range []string{"b.png", "c.png", "caf\xe9.png"} {
		w.file(name, []byte("\x89PNG\r\n\x1a\n"))
	}
	w.file("z.png", nil)
	_, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.ErrorContains(t, err, "4 images cannot be used (3 damaged, 1 empty), the first is b.png: PNG that ends early; ")
	require.NoError(t, os.Remove(filepath.Join(w.dir, "b.png")))
	require.NoError(t, os.Remove(filepath.Join(w.dir, "c.png")))
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.ErrorContains(t, err, `the first is "caf\xe9.png": PNG`)
}

func TestScanFindsNothing(t *testing.T) {
	w := newTree(t)
	_, err := Scan(t.Context(), ScanConfig{Dir: filepath.Join(w.dir, "no\xff")})
	require.ErrorContains(t, err, `no\xff": not found; set data.dir`)
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.ErrorContains(t, err, w.dir+" is empty; set data.dir")
	w.file("x.csv", []byte("1,2"))
	w.file("y.csv", []byte("1,2"))
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.ErrorContains(t, err, "has no image that can be used; not used: 2 not an image by its name; set data.dir")
	w.file("z.png", nil)
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir, Corrupt: CorruptSkip})
	require.ErrorContains(t, err, "2 not an image by its name, 1 empty")
	_, err = Scan(t.Context(), ScanConfig{Dir: filepath.Join(w.dir, "z.png")})
	require.ErrorContains(t, err, "set data.dir to a directory of images")
}

// header reads headers and ends only; full finds what is wrong in the middle. Of
// a small folder everything is decoded unless the user says otherwise.
func TestScanVerifies(t *testing.T) {
	w := newTree(t)
	text := encodePNG(t, paint(30, 30, func(x, y int) color.NRGBA { return color.NRGBA{uint8(x * y), uint8(x), uint8(y), 255} }))
	text[len(text)/2] ^= 0xff
	w.file("x.png", text)
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir, Verify: VerifyHeader})
	require.NoError(t, err)
	require.False(t, x.Images[0].Verified)
	require.Equal(t, 30, x.Images[0].Header.Width)
	for _, verify := range []string{VerifyFull, VerifyAuto, ""} {
		_, err = Scan(t.Context(), ScanConfig{Dir: w.dir, Verify: verify})
		require.ErrorContains(t, err, "x.png: PNG: ")
	}
	// A file that its end tells apart is found in any case.
	w.file("x.png", text[:len(text)-20])
	_, err = Scan(t.Context(), ScanConfig{Dir: w.dir, Verify: VerifyHeader})
	require.ErrorContains(t, err, "x.png: PNG")
}

// The cache saves reading; what has changed is read again, and a file that was
// written while the scan ran is not believed.
func TestScanCache(t *testing.T) {
	w := newTree(t)
	w.png("a.png", "b.png", "sub/c\xff.png")
	w.file("bad.png", []byte("\x89PNG\r\n\x1a\nxxxxxxxxxxxxxxxxxxx"))
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"a.png", "b.png", "sub/c\xff.png", "bad.png"} {
		require.NoError(t, os.Chtimes(filepath.Join(w.dir, name), old, old))
	}
	cache := filepath.Join(t.TempDir(), "deep", "cache.txt")
	scan := func(verify string) (*Index, []string) {
		var read []string
		s := &scanner{ScanConfig: ScanConfig{Dir: w.dir, Verify: verify, Corrupt: CorruptSkip, CachePath: cache}}
		names := make(chan string, 100)
		s.inspect = func(path string, full bool) verdict {
			names <- filepath.Base(path)
			return inspect(path, full)
		}
		x, err := s.run(t.Context())
		require.NoError(t, err)
		close(names)
		for n := range names {
			read = append(read, n)
		}
		slices.Sort(read)
		return x, read
	}
	first, read := scan(VerifyHeader)
	require.Equal(t, []string{"a.png", "b.png", "bad.png", "c\xff.png"}, read)
	again, read := scan(VerifyHeader)
	require.Empty(t, read)
	require.Equal(t, first, again)
	require.Equal(t, SkipDamaged, again.Skipped[0].Reason)

	full, read := scan(VerifyFull) // what was not decoded then
	require.Equal(t, []string{"a.png", "b.png", "c\xff.png"}, read)
	require.True(t, full.Images[0].Verified)
	require.Equal(t, first.Fingerprint(), full.Fingerprint())
	_, read = scan(VerifyFull)
	require.Empty(t, read)

	w.png("a.png") // written just now
	_, read = scan(VerifyFull)
	require.Equal(t, []string{"a.png"}, slices.Compact(read))
	_, read = scan(VerifyFull)
	require.Equal(t, []string{"a.png"}, slices.Compact(read), "too new to be believed")

	require.NoError(t, os.Remove(filepath.Join(w.dir, "b.png")))
	x, _ := scan(VerifyFull)
	require.Equal(t, []string{"a.png", "sub/c\xff.png"}, paths(x))
	require.NotEqual(t, first.Fingerprint(), x.Fingerprint())

	require.NoError(t, os.WriteFile(cache, []byte(indexMagic+"\nimage\t1\n"), 0o600))
	_, read = scan(VerifyHeader)
	require.Len(t, read, 3, "a damaged cache is none")
}

// A file that does not come back is named after a while, and a scan ends with its
// context.
func TestScanStalls(t *testing.T) {
	w := newTree(t)
	w.png("a.png", "b.png", "c.png")
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := &scanner{ScanConfig: ScanConfig{Dir: w.dir, Stall: time.Minute}, inspect: func(path string, full bool) verdict {
			if strings.HasSuffix(path, "b.png") {
				<-hang
			}
			return inspect(path, full)
		}}
		_, err := s.run(t.Context())
		var stalled *StalledError
		require.ErrorAs(t, err, &stalled)
		require.Equal(t, "b.png", stalled.Path)

		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		s.Stall = 0
		time.AfterFunc(time.Second, func() { cancel(cause) })
		_, err = s.run(ctx)
		require.ErrorIs(t, err, cause)
		close(hang)
	})
}

func TestScanReportsProgress(t *testing.T) {
	w := newTree(t)
	w.png("a.png", "b.png", "c.png")
	var last [3]any
	_, err := Scan(t.Context(), ScanConfig{Dir: w.dir, Verify: VerifyHeader, Progress: func(what string, done, total int) { last = [3]any{what, done, total} }})
	require.NoError(t, err)
	require.Equal(t, [3]any{"reading headers", 3, 3}, last)
}

func TestIndexText(t *testing.T) {
	w := newTree(t)
	w.png("a\tb\n.png", "caf\xe9.png", "d/e.png")
	w.file("x.txt", nil)
	w.file(".hidden", nil)
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, x.Encode(&out))
	again, err := DecodeIndex(bytes.NewReader(out.Bytes()))
	require.NoError(t, err)
	require.Equal(t, x, again)
	require.Equal(t, x.Fingerprint(), again.Fingerprint())
	require.Regexp(t, `^3-[0-9a-f]{16}$`, x.Fingerprint())
}

// Any bit flipped, any length cut to: an error, never another list.
func TestIndexDamaged(t *testing.T) {
	w := newTree(t)
	w.png("a.png", "d/e.png")
	w.file("x.txt", nil)
	x, err := Scan(t.Context(), ScanConfig{Dir: w.dir})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, x.Encode(&out))
	good := out.Bytes()
	for i := range good {
		_, err := DecodeIndex(bytes.NewReader(good[:i]))
		require.Error(t, err, "cut to %d", i)
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, err := DecodeIndex(bytes.NewReader(bad))
			require.Error(t, err, "byte %d, bit %d", i, bit)
		}
	}
	_, err = DecodeIndex(bytes.NewReader(append(bytes.Clone(good), good...)))
	require.ErrorIs(t, err, errIndexDamaged)
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(indexMagic + "\nimage\t3\t4\ttrue\tPNG\t5\t6\trgb\t1\tfalse\t\"a\\xff\"\nskip\t0\t0\tempty\t\"\"\t\"b\"\n")
	f.Add(indexMagic + "\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = DecodeIndex(strings.NewReader(text)) // no panic
		x, err := DecodeIndex(strings.NewReader(fmt.Sprintf("%ssum\t%x\n", text, sha256.Sum256([]byte(text)))))
		if err != nil {
			return
		}
		var out bytes.Buffer
		require.NoError(t, x.Encode(&out))
		again, err := DecodeIndex(&out)
		require.NoError(t, err)
		require.Equal(t, x, again)
	})
}

func BenchmarkScanHeaders(b *testing.B) {
	dir := b.TempDir()
	text := encodePNG(b, paint(32, 32, flat(1, 2, 3, 255)))
	for i := range 2000 {
		require.NoError(b, os.WriteFile(filepath.Join(dir, "i"+string(rune('a'+i%26))+strconv.Itoa(i)+".png"), text, 0o600))
	}
	for b.Loop() {
		_, err := Scan(b.Context(), ScanConfig{Dir: dir, Verify: VerifyHeader})
		require.NoError(b, err)
	}
	b.ReportMetric(float64(2000*b.N)/b.Elapsed().Seconds(), "files/s")
	b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "cores")
}
