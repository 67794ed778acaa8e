package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/data/imagefile"
)

// How much of an image folder's files a scan reads.
const (
	VerifyAuto   = "auto"   // full where the files together have at most 256 MiB, or damaged ones are left out; else header
	VerifyHeader = "header" // every header, and whether PNG and JPEG files have their end
	VerifyFull   = "full"   // every file is decoded
)

// What happens to images that cannot be used.
const (
	CorruptRefuse = "refuse" // the scan fails and names them
	CorruptSkip   = "skip"   // they are left out and listed
)

const (
	// maxPixels bounds what one file may make the decoder allocate: a few hundred
	// bytes can claim to be an image of any size.
	maxPixels = 1 << 26
	// maxFileBytes bounds the file itself.
	maxFileBytes = 1 << 30
	// maxSide bounds the size that images are converted to.
	maxSide = 4096
)

// autoVerifyBytes is what VerifyAuto decodes: some seconds of work on one core,
// and it is done once (see the cache).
const autoVerifyBytes = 256 << 20

// ScanConfig is how to look at an image folder.
type ScanConfig struct {
	Dir     string
	Verify  string // VerifyAuto, ...; empty is VerifyAuto
	Corrupt string // CorruptRefuse or CorruptSkip; empty is CorruptRefuse
	// CachePath is a file with the results of earlier scans: a file whose size and
	// time of modification are those of then is not read again. Empty: no cache.
	CachePath string
	// Stall is how long the scan waits for one file before it gives up and names
	// it (a file system whose server is gone). 0: for ever.
	Stall time.Duration
	// Progress, where given, is called from one goroutine with what is being done.
	Progress func(what string, done, total int)
}

// FaultsError says which files of a folder cannot be used.
type FaultsError struct {
	Dir    string
	Faults []Skip
	Files  int // regular files that were looked at
}

func (e *FaultsError) Error() string {
	first := e.Faults[0]
	text := quoted(first.Path) + ": "
	if first.Reason == SkipSpecial || first.Detail == "" {
		text += string(first.Reason)
		if first.Detail != "" {
			text += ", " + first.Detail
		}
	} else {
		text += first.Detail
	}
	if len(e.Faults) == 1 {
		return fmt.Sprintf("%s: an image cannot be used: %s; remove or replace it, or leave it out with data.corrupt=skip", quoted(e.Dir), text)
	}
	return fmt.Sprintf("%s: %d images cannot be used (%s), the first is %s; remove or replace them, or leave them out with data.corrupt=skip (agrdist data info lists them)",
		quoted(e.Dir), len(e.Faults), countReasons(e.Faults), text)
}

// countReasons is "2 damaged, 1 empty", the most frequent first.
func countReasons(skips []Skip) string {
	counts := map[Reason]int{}
	for _, s := range skips {
		counts[s.Reason]++
	}
	var reasons []Reason
	for r := range counts {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(string(a), string(b))
	})
	var out []string
	for _, r := range reasons {
		out = append(out, fmt.Sprintf("%d %s", counts[r], r))
	}
	return strings.Join(out, ", ")
}

// Scan looks at every file of an image folder once, several at a time. Files
// that cannot be used end it with a *FaultsError, or are left out, as the
// configuration says; a folder without any image is a *MissingError.
func Scan(ctx context.Context, c ScanConfig) (*Index, error) {
	s := &scanner{ScanConfig: c, inspect: inspect}
	return s.run(ctx)
}

// scanner is one scan.
type scanner struct {
	ScanConfig
	inspect func(path string, full bool) verdict // replaced in tests
}

// verdict is what one file is: an image, or why not.
type verdict struct {
	image   Image // without its path
	skip    Skip  // Reason empty: it is an image
	cached  bool
	size    int64
	modTime int64
}

func (s *scanner) run(ctx context.Context) (*Index, error) {
	if s.Progress == nil {
		s.Progress = func(string, int, int) {}
	}
	if info, err := os.Stat(s.Dir); err != nil || !info.IsDir() {
		return nil, &MissingError{Path: s.Dir, Fix: fixFolder, Err: missing(err)}
	}
	began := time.Now()
	w, err := walkTree(ctx, s.Dir, func(files int) { s.Progress("listing", files, 0) })
	if err != nil {
		return nil, err
	}
	x := &Index{Skipped: w.skipped}
	if err := s.refuse(x, len(w.files)); err != nil {
		return nil, err // before anything is read
	}
	cache := readCache(s.CachePath)
	verdicts, err := s.each(ctx, "reading headers", w.files, func(i int) verdict {
		path := w.at(w.files[i])
		if v, ok := cache.lookup(path, w.files[i]); ok {
			return v
		}
		return s.inspect(path, s.Verify == VerifyFull)
	})
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx, w, verdicts); err != nil {
		return nil, err
	}
	cache.store(s.CachePath, w.files, verdicts, began)
	for i, v := range verdicts {
		if v.skip.Reason == "" {
			v.image.Path = w.files[i]
			x.Images = append(x.Images, v.image)
			continue
		}
		v.skip.Path = w.files[i]
		x.Skipped = append(x.Skipped, s.forgive(v.skip))
	}
	slices.SortFunc(x.Skipped, func(a, b Skip) int { return strings.Compare(a.Path, b.Path) })
	if err := s.refuse(x, len(w.files)); err != nil {
		return nil, err
	}
	if len(x.Images) == 0 {
		return nil, nothing(s.Dir, x)
	}
	return x, nil
}

const fixFolder = "set data.dir to a directory of images (PNG, JPEG, WebP, BMP, GIF, TIFF)"

// nothing words the error for a folder without images.
func nothing(dir string, x *Index) error {
	if len(x.Skipped) == 0 {
		return &MissingError{Path: dir, Fix: fixFolder, Reason: "is empty"}
	}
	return &MissingError{
		Path: dir, Fix: fixFolder,
		Reason: fmt.Sprintf("has no image that can be used; not used: %s", countReasons(x.Skipped)),
	}
}

// forgive turns the faults of a file whose name promised nothing into a remark.
func (s *scanner) forgive(skip Skip) Skip {
	if imageName(skip.Path) == anyName && (skip.Reason == SkipNotRead || skip.Reason == SkipEmpty) {
		skip.Reason, skip.Detail = SkipNoImage, ""
	}
	return skip
}

func (s *scanner) refuse(x *Index, files int) error {
	if s.Corrupt == CorruptSkip {
		return nil
	}
	if faults := x.Faults(); len(faults) > 0 {
		return &FaultsError{Dir: s.Dir, Faults: faults, Files: files}
	}
	return nil
}

// verify decodes what has not been decoded yet, if that is asked for.
func (s *scanner) verify(ctx context.Context, w *walk, verdicts []verdict) error {
	var (
		todo  []int
		names []string
		bytes int64
	)
	for i, v := range verdicts {
		if v.skip.Reason == "" {
			bytes += v.size
			if !v.image.Verified {
				todo, names = append(todo, i), append(names, w.files[i])
			}
		}
	}
	auto := s.Verify == VerifyAuto || s.Verify == ""
	if s.Verify == VerifyHeader || auto && bytes > autoVerifyBytes && s.Corrupt != CorruptSkip {
		return nil
	}
	decoded, err := s.each(ctx, "decoding", names, func(i int) verdict { return s.inspect(w.at(names[i]), true) })
	for k, v := range decoded {
		verdicts[todo[k]] = v
	}
	return err
}

// each computes a verdict on every file, several at a time. A file that takes
// longer than Stall ends it; whoever waits for that file is left behind.
func (s *scanner) each(ctx context.Context, what string, files []string, f func(i int) verdict) ([]verdict, error) {
	type result struct {
		i int
		v verdict
	}
	out := make([]verdict, len(files))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo, results := make(chan int), make(chan result)
	workers := min(len(files), runtime.GOMAXPROCS(0))
	for range workers {
		go func() {
			for i := range todo {
				select {
				case results <- result{i, f(i)}:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	open := map[int]time.Time{} // under way, since when
	tick := time.NewTicker(pollEvery(s.Stall))
	defer tick.Stop()
	defer close(todo)
	next := 0
	for done := 0; done < len(files); {
		give := todo
		if next == len(files) {
			give = nil
		}
		select {
		case give <- next:
			open[next] = time.Now()
			next++
		case r := <-results:
			out[r.i] = r.v
			delete(open, r.i)
			done++
			s.Progress(what, done, len(files))
		case now := <-tick.C:
			for i, since := range open {
				if s.Stall > 0 && now.Sub(since) > s.Stall {
					return nil, &StalledError{Path: files[i], After: s.Stall}
				}
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("scanning %s: %w", quoted(s.Dir), context.Cause(ctx))
		}
	}
	return out, nil
}

// inspect looks at one file: its header, or all of it.
func inspect(path string, full bool) verdict {
	f, info, err := openRegular(path)
	if err != nil {
		return verdict{skip: skipOf(err)}
	}
	defer f.Close()
	v := verdict{size: info.Size(), modTime: info.ModTime().UnixNano()}
	v.image.Size, v.image.ModTime = v.size, v.modTime
	v.image.Header, err = imagefile.ReadHeader(f, v.size)
	if err == nil {
		h := v.image.Header
		switch {
		case v.size > maxFileBytes:
			err = &imagefile.Error{Fault: imagefile.TooLarge, Detail: fmt.Sprintf("a file of %d bytes; at most %d are read", v.size, maxFileBytes)}
		case h.Width > maxPixels/h.Height:
			err = &imagefile.Error{Fault: imagefile.TooLarge, Detail: fmt.Sprintf("%d x %d pixels are more than the %d that are read", h.Width, h.Height, maxPixels)}
		case full || !imagefile.Complete(h.Format, f, v.size):
			v.image.Verified = true
			err = decodeWhole(f, v.size)
		}
	}
	if err != nil {
		v.skip = skipOf(err)
	}
	return v
}

func decodeWhole(f io.ReaderAt, size int64) error {
	text := make([]byte, size)
	if n, err := f.ReadAt(text, 0); n < len(text) {
		return fmt.Errorf("reading it: %w", err)
	}
	_, _, err := imagefile.Decode(text, maxPixels)
	return err
}

// skipOf words why a file is not used.
func skipOf(err error) Skip {
	var (
		bad     *imagefile.Error
		special *specialError
	)
	switch {
	case errors.As(err, &bad):
		return Skip{Reason: Reason(bad.Fault), Detail: bad.Detail}
	case errors.As(err, &special):
		return Skip{Reason: SkipSpecial, Detail: special.kind}
	}
	return Skip{Reason: SkipDenied, Detail: plain(err).Error()}
}

// specialError says that a path leads to what is no regular file.
type specialError struct{ kind string }

func (e *specialError) Error() string { return "not a regular file but " + e.kind }

// openRegular opens a regular file. Opening never blocks, not even on a pipe.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if info, statErr := os.Stat(path); statErr == nil && !info.Mode().IsRegular() {
			return nil, nil, &specialError{kindOf(info.Mode().Type())} // a socket cannot be opened at all
		}
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &specialError{kindOf(info.Mode().Type())}
	}
	if err != nil {
		return nil, nil, cmp.Or(err, f.Close())
	}
	return f, info, nil
}

// missing drops the error that says no more than "not found".
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return plain(err)
}
