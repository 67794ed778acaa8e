package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// contents are the bytes that the servers of these tests have.
var contents = bytes.Repeat([]byte("0123456789abcdef"), 10_000)

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// serve answers the n-th request, from 0.
func serve(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(int(requests.Add(1))-1, w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return s.URL + "/file.tar.gz", requests
}

func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(contents))
}

// cut sends the first n bytes of what a request asks for and ends the connection.
func cut(w http.ResponseWriter, r *http.Request, n int) {
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(contents)-1, len(contents)))
		w.Header().Set("Content-Length", strconv.Itoa(len(contents)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(contents)))
	}
	_, _ = w.Write(contents[from:min(from+n, len(contents))])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func fast(t *testing.T, d Download, url string) Download {
	t.Helper()
	d.URL, d.SHA256, d.Backoff = url, sumOf(contents), time.Microsecond
	if d.Path == "" {
		d.Path = filepath.Join(t.TempDir(), "deep", "file")
	}
	return d
}

func requireWhole(t *testing.T, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, contents, got)
	require.NoFileExists(t, path+".part")
}

// However a server behaves on the way, the file ends up whole; each case says how
// many requests that takes.
func TestDownload(t *testing.T) {
	for name, c := range map[string]struct {
		requests int
		part     []byte // what an earlier attempt left
		answer   func(n int, w http.ResponseWriter, r *http.Request)
	}{
		"at once":                 {requests: 1, answer: func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }},
		"cut off again and again": {requests: 16, answer: func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, 10_000) }},
		"busy at first": {requests: 3, answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n < 2 {
				w.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusTooManyRequests}[n])
				return
			}
			whole(w, r)
		}},
		"resumes yesterday's": {requests: 1, part: contents[:70_000], answer: func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "bytes=70000-" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			whole(w, r)
		}},
		"whole already": {requests: 1, part: contents, answer: func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }},
		"no ranges": {requests: 2, part: contents[:70_000], answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				cut(w, r, 500)
			}
			_, _ = w.Write(contents)
		}},
		"another file yesterday": {requests: 2, part: bytes.Repeat([]byte("x"), 5000), answer: func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }},
		"too long yesterday":     {requests: 2, part: bytes.Repeat(contents, 2), answer: func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) }},
		"a wrong range": {requests: 2, part: contents[:70_000], answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 0 {
				w.Header().Set("Content-Range", "bytes 60000-159999/160000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(contents[60_000:])
				return
			}
			whole(w, r)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			url, requests := serve(t, c.answer)
			d := fast(t, Download{}, url)
			var last int64
			d.Progress = func(got, _ int64) { last = got }
			if c.part != nil {
				require.NoError(t, os.MkdirAll(filepath.Dir(d.Path), 0o750))
				require.NoError(t, os.WriteFile(d.Path+".part", c.part, 0o600))
			}
			require.NoError(t, d.Run(t.Context()))
			requireWhole(t, d.Path)
			if name != "whole already" {
				require.Equal(t, int64(len(contents)), last)
			}
			require.Equal(t, int64(c.requests), requests.Load())

			require.NoError(t, d.Run(t.Context()), "it is there")
			require.Equal(t, int64(c.requests), requests.Load())
		})
	}
}

func TestDownloadFails(t *testing.T) {
	fail := func(attempts int, answer func(n int, w http.ResponseWriter, r *http.Request)) (int64, Download, error) {
		url, requests := serve(t, answer)
		d := fast(t, Download{Attempts: attempts}, url)
		err := d.Run(t.Context())
		require.NoFileExists(t, d.Path)
		return requests.Load(), d, err
	}
	n, _, err := fail(3, func(_ int, w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) })
	require.ErrorContains(t, err, "/file.tar.gz: the server answers 404 Not Found")
	require.Equal(t, int64(1), n, "asking again would not help")

	n, _, err = fail(3, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	require.ErrorContains(t, err, "given up after 3 attempts: ")
	require.Equal(t, int64(3), n)

	// A login page instead of the file.
	_, d, err := fail(3, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>please log in")) })
	var checksum *ChecksumError
	require.ErrorAs(t, err, &checksum)
	require.ErrorContains(t, err, "try another --mirror")
	require.NoFileExists(t, d.Path+".part", "what is wrong is not kept")

	d = fast(t, Download{Attempts: 2}, "http://127.0.0.1:1/x.tar.gz")
	var retries int
	d.Retrying = func(error, time.Duration) { retries++ }
	require.ErrorContains(t, d.Run(t.Context()), "connection refused")
	require.Equal(t, 1, retries)

	// A place that cannot be written is not asked for twice.
	url, requests := serve(t, func(_ int, w http.ResponseWriter, r *http.Request) { whole(w, r) })
	d = fast(t, Download{Path: filepath.Join(t.TempDir(), "file")}, url)
	require.NoError(t, os.Mkdir(d.Path+".part", 0o750))
	require.ErrorContains(t, d.Run(t.Context()), "is a directory")
	require.Zero(t, requests.Load())
}

// A server that falls silent is left, and what it sent is kept; so it is when the
// user loses patience.
func TestDownloadOfASilentServer(t *testing.T) {
	hold := make(chan struct{})
	url, requests := serve(t, func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			whole(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(contents)))
		_, _ = w.Write(contents[:50_000])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(hold) })
	d := fast(t, Download{Silence: 50 * time.Millisecond}, url)
	var said error
	d.Retrying = func(err error, _ time.Duration) { said = err }
	require.NoError(t, d.Run(t.Context()))
	require.ErrorContains(t, said, "no byte for 50ms")
	requireWhole(t, d.Path)
	require.Equal(t, int64(2), requests.Load())

	cause := errors.New("Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	d = fast(t, Download{}, url)
	d.Progress = func(got, _ int64) {
		if got == 50_000 {
			cancel(cause)
		}
	}
	require.ErrorIs(t, d.Run(ctx), cause)
	info, err := os.Stat(d.Path + ".part")
	require.NoError(t, err)
	require.Equal(t, int64(50_000), info.Size())
}

func TestRangeStart(t *testing.T) {
	for header, want := range map[string]int64{"bytes 5-9/10": 5, "bytes 0-0/*": 0, "": -1, "bytes */10": -1, "items 5-9/10": -1, "bytes 5": -1} {
		n, ok := rangeStart(header)
		require.Equal(t, want >= 0, ok, header)
		if ok {
			require.Equal(t, want, n)
		}
	}
	require.Equal(t, "https://m/x.tgz", Options{Mirror: "https://m/x.tgz"}.url("https://u/y.tgz"))
	require.Equal(t, "https://m/d/y.tgz", Options{Mirror: "https://m/d/"}.url("https://u/y.tgz"))
	require.Equal(t, "https://u/y.tgz", Options{}.url("https://u/y.tgz"))
	require.True(t, strings.HasSuffix(Emoji32URL, "16.0.0.tgz"))
}
