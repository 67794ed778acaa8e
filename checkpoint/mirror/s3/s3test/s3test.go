// Package s3test starts S3 servers for tests: one in this process (gofakes3), which
// believes any signature, and a real one (versitygw), which does not.
//
// Its one idea: what a client makes of refusals can only be tested on a server that
// refuses by itself. The real one is a program that `hack/e2e-k8s.sh --build` leaves in
// the user's cache; without it the tests that need it are skipped, with that reason.
package s3test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Bucket is the bucket that every server has at its start.
const Bucket = "checkpoints"

// The only credentials that a real server takes.
const (
	Access = "agrdist-test"
	Secret = "agrdist-test-secret" //nolint:gosec // of a server that lives as long as a test
)

// Fake starts a server in this process, until the test ends.
func Fake(tb testing.TB) (endpoint string) {
	tb.Helper()
	s := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	tb.Cleanup(s.Close)
	makeBucket(tb, s.URL)
	return s.URL
}

// Real starts a real server, until the test ends, or skips the test.
func Real(tb testing.TB) (endpoint string) {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Skip("no cache directory, so no S3 server: ", err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "agrdist", "e2e", "s3-versitygw-*", "versitygw"))
	if err != nil || len(found) == 0 {
		tb.Skip("no S3 server is built; hack/e2e-k8s.sh --build makes one")
	}
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close() // the server listens there
	root := tb.TempDir()
	for _, dir := range []string{"data", "meta"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the server has its own descriptor
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, found[len(found)-1], "--access", Access, "--secret", Secret, "--port", addr, "--quiet", //nolint:gosec // from this user's cache
		"posix", "--sidecar", filepath.Join(root, "meta"), filepath.Join(root, "data"))
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		stop()
		_ = server.Wait() // it was killed
		if tb.Failed() {
			text, _ := os.ReadFile(log.Name())
			tb.Logf("the S3 server: %s", text)
		}
	})
	endpoint = "http://" + addr
	tick, late := time.NewTicker(50*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-late:
			tb.Fatal("the S3 server does not answer: ", err)
		}
	}
	makeBucket(tb, endpoint)
	return endpoint
}

func makeBucket(tb testing.TB, endpoint string) {
	tb.Helper()
	c := Client(tb, endpoint)
	if err := c.MakeBucket(context.Background(), Bucket, minio.MakeBucketOptions{}); err != nil {
		tb.Fatal(err)
	}
}

// Client returns a client of a server, to look behind the scenes.
func Client(tb testing.TB, endpoint string) *minio.Client {
	tb.Helper()
	c, err := minio.New(endpoint[len("http://"):], &minio.Options{Creds: credentials.NewStaticV4(Access, Secret, ""), Region: "us-east-1"})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Keys returns the keys of everything that a server has.
func Keys(tb testing.TB, endpoint string) (keys []string) {
	tb.Helper()
	for o := range Client(tb, endpoint).ListObjects(tb.Context(), Bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			tb.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// Environment are the variables by which a process may use the servers.
func Environment() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + Access, "AWS_SECRET_ACCESS_KEY=" + Secret, "AWS_REGION=us-east-1"}
}

// Place is the value of checkpoint.mirror for a prefix on a server.
func Place(endpoint, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s", Bucket, prefix, endpoint)
}

// Refuse answers requests with a status as long as when says so, and passes all others on.
func Refuse(tb testing.TB, endpoint string, status int, when func(*http.Request) bool) (front string) {
	tb.Helper()
	s := httptest.NewServer(proxy(tb, endpoint, func(w http.ResponseWriter, r *http.Request) bool {
		if !when(r) {
			return false
		}
		http.Error(w, http.StatusText(status), status)
		return true
	}))
	tb.Cleanup(s.Close)
	return s.URL
}
