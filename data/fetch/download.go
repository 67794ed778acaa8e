package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Download says what to get and how patiently.
type Download struct {
	URL    string
	Path   string // where it goes; Path + ".part" while it is not whole
	SHA256 string // hexadecimal
	Size   int64  // bytes, for the progress where the server does not say; 0: unknown

	Client   *http.Client           // nil: http.DefaultClient, which heeds HTTPS_PROXY
	Attempts int                    // in a row without a byte of progress, then it fails; 0: 5
	Backoff  time.Duration          // before the second attempt, doubled for each more; 0: 1 s
	Silence  time.Duration          // without a byte, after which a connection is given up; 0: 30 s
	Progress func(got, total int64) // may be nil
	Retrying func(err error, wait time.Duration)
}

// StatusError is an answer that is not a file.
type StatusError struct {
	URL    string
	Status string
	code   int
}

func (e *StatusError) Error() string { return e.URL + ": the server answers " + e.Status }

// passing says whether asking again may help.
func (e *StatusError) passing() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}

// ChecksumError is a file that is not the expected one.
type ChecksumError struct{ Path, Want, Got string }

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s: its SHA-256 is %s and must be %s: it was changed or damaged on the way; try another --mirror", e.Path, e.Got, e.Want)
}

// Run downloads the file, or finds that it is there already.
func (d Download) Run(ctx context.Context) error {
	if sum, err := fileSHA256(ctx, d.Path); err == nil && sum == d.SHA256 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(d.Path), 0o755); err != nil {
		return err
	}
	part := d.Path + ".part"
	old, err := d.attempts(ctx, part)
	if err != nil {
		return err
	}
	sum, err := fileSHA256(ctx, part)
	if err == nil && sum != d.SHA256 && old {
		// The first bytes may be from another day's file, or damaged: once more,
		// from the start.
		if err = os.Remove(part); err == nil {
			if _, err = d.attempts(ctx, part); err == nil {
				sum, err = fileSHA256(ctx, part)
			}
		}
	}
	if err != nil {
		return err
	}
	if sum != d.SHA256 {
		return errors.Join(&ChecksumError{d.URL, d.SHA256, sum}, os.Remove(part))
	}
	return os.Rename(part, d.Path)
}

// attempts asks until the file is whole. old says that a part of it was there
// before.
func (d Download) attempts(ctx context.Context, part string) (old bool, err error) {
	if info, err := os.Stat(part); err == nil && info.Size() > 0 {
		old = true
	}
	patience, wait := d.Attempts, d.Backoff
	if patience == 0 {
		patience = 5
	}
	if wait == 0 {
		wait = time.Second
	}
	first := wait
	for failures := 0; ; {
		got, err := d.once(ctx, part)
		if err == nil {
			return old, nil
		}
		if got > 0 { // it is alive
			failures, wait = 0, first
		}
		failures++
		var refused *StatusError
		var disk *os.PathError
		switch {
		case ctx.Err() != nil:
			return old, context.Cause(ctx)
		case errors.As(err, &refused) && !refused.passing(), errors.As(err, &disk):
			return old, err
		case failures >= patience:
			return old, fmt.Errorf("given up after %d attempts: %w", failures, err)
		}
		if d.Retrying != nil {
			d.Retrying(err, wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return old, context.Cause(ctx)
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// once is one request for what is missing; got is how many bytes it brought.
func (d Download) once(ctx context.Context, part string) (got int64, err error) {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := d.Silence
	if silence == 0 {
		silence = 30 * time.Second
	}
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("%s: no byte for %s", d.URL, silence)) })
	defer quiet.Stop()
	response, err := d.ask(ctx, have)
	if err != nil {
		return 0, cause(ctx, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusPartialContent:
		if from, ok := rangeStart(response.Header.Get("Content-Range")); !ok || from != have {
			return 0, fmt.Errorf("%s: asked for what follows byte %d, the server sent %q", d.URL, have, response.Header.Get("Content-Range"))
		}
	case http.StatusOK: // from the start, whatever was asked for
		if err := f.Truncate(0); err != nil {
			return 0, err
		}
		if have, err = f.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if have > 0 { // whole already, or more than that: the checksum tells
			return 0, nil
		}
		fallthrough
	default:
		return 0, &StatusError{d.URL, response.Status, response.StatusCode}
	}
	total := d.Size
	if response.ContentLength >= 0 {
		total = have + response.ContentLength
	}
	to := &meter{w: f, progress: func(n int64) {
		quiet.Reset(silence)
		if d.Progress != nil {
			d.Progress(have+n, total)
		}
	}}
	got, err = io.Copy(to, response.Body)
	return got, cause(ctx, err)
}

func (d Download) ask(ctx context.Context, have int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
	if err != nil {
		return nil, err
	}
	// As it is: no transfer encoding, whose length would not be the file's.
	request.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	client := d.Client
	if client == nil {
		client = http.DefaultClient
	}
	return client.Do(request)
}

// cause is why ctx ended, where that is what failed.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// rangeStart is N of "bytes N-M/L".
func rangeStart(header string) (int64, bool) {
	rest, ok := strings.CutPrefix(header, "bytes ")
	first, _, ok2 := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && ok2 && err == nil
}

type meter struct {
	w        io.Writer
	n        int64
	progress func(n int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n += int64(n)
	m.progress(m.n)
	return n, err
}

// fileSHA256 is a file's digest.
func fileSHA256(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if err := copyHash(ctx, h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyHash(ctx context.Context, h hash.Hash, r io.Reader) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := io.CopyN(h, r, 1<<24); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
