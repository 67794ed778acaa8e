package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// scanCache holds the verdicts of an earlier scan of one folder, by path.
type scanCache struct {
	verdicts map[string]verdict
}

// racy is how old a file must be for its verdict to be kept: one that was
// written a moment ago may be written again without a new time or size.
const racy = 2 * time.Second

// DefaultCachePath is where the scan of a folder is remembered, below the user's
// cache directory; empty where there is none.
func DefaultCachePath(dir string) string {
	base, err := os.UserCacheDir()
	if err != nil {
		return "" // no home: no cache
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	name := sha256.Sum256([]byte(absolute))
	return filepath.Join(base, "agrdist", "scans", hex.EncodeToString(name[:12])+".txt")
}

// readCache reads what is there. A cache that cannot be read is none: the scan
// reads the files then, which is right in any case.
func readCache(path string) scanCache {
	c := scanCache{verdicts: map[string]verdict{}}
	if path == "" {
		return c
	}
	f, err := os.Open(path)
	if err != nil {
		return c
	}
	defer f.Close()
	err = readIndex(f, func(m Image) {
		c.verdicts[m.Path] = verdict{image: m, size: m.Size, modTime: m.ModTime}
	}, func(s cachedSkip) {
		c.verdicts[s.Path] = verdict{skip: s.Skip, size: s.size, modTime: s.modTime}
	})
	if err != nil {
		clear(c.verdicts)
	}
	return c
}

// lookup returns the verdict on a file that has not changed since.
func (c scanCache) lookup(path, name string) (verdict, bool) {
	v, ok := c.verdicts[name]
	if !ok {
		return v, false
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != v.size || info.ModTime().UnixNano() != v.modTime {
		return v, false
	}
	v.cached = true
	return v, true
}

// store writes the verdicts that will hold as long as a file keeps its size and
// time. It is best effort: a cache that cannot be written costs time only.
func (c scanCache) store(path string, files []string, verdicts []verdict, now time.Time) {
	if path == "" {
		return
	}
	var text bytes.Buffer
	out := newIndexWriter(&text)
	news := false
	for i, v := range verdicts {
		news = news || !v.cached
		if now.UnixNano()-v.modTime < int64(racy) {
			continue
		}
		switch v.skip.Reason {
		case "":
			v.image.Path = files[i]
			writeImage(out, v.image)
		case SkipEmpty, SkipDamaged, SkipTooLarge, SkipNotRead: // of its contents
			v.skip.Path = files[i]
			writeSkip(out, cachedSkip{Skip: v.skip, size: v.size, modTime: v.modTime})
		default: // of its name or its place, which costs nothing to find out again
		}
	}
	if !news {
		return
	}
	if out.close() == nil && os.MkdirAll(filepath.Dir(path), 0o755) == nil {
		_ = renameio.WriteFile(path, text.Bytes(), 0o644, renameio.WithTempDir(filepath.Dir(path)))
	}
}
