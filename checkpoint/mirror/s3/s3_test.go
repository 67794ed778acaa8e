package s3_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/checkpoint/mirror"
	"github.com/agrdist/agrdist/checkpoint/mirror/s3"
	"github.com/agrdist/agrdist/checkpoint/mirror/s3/s3test"
)

// servers are those that every test of what works runs against.
var servers = map[string]func(testing.TB) string{"in process": s3test.Fake, "real": s3test.Real}

func credentials(t *testing.T) {
	t.Helper()
	for _, v := range s3test.Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func open(t *testing.T, endpoint, bucket, prefix string) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(s3.Config{Bucket: bucket, Prefix: prefix, Endpoint: endpoint})
	require.NoError(t, err)
	return b
}

func file(t *testing.T, n int) (path string, text []byte) {
	t.Helper()
	text = make([]byte, n)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(text) // never fails
	path = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path, text
}

func TestBucket(t *testing.T) {
	credentials(t)
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			endpoint := start(t)
			b, other := open(t, endpoint, s3test.Bucket, "runs/a"), open(t, endpoint, s3test.Bucket, "runs/ab")
			require.Equal(t, "s3://checkpoints/runs/a", b.String())
			_, err := b.Get(t.Context(), "step-1/manifest.json")
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, b.Delete(t.Context(), "step-1/manifest.json"), "nothing there")

			small, text := file(t, 1000)
			large, much := file(t, largest(name))
			require.NoError(t, b.Put(t.Context(), "step-1/small", small))
			require.NoError(t, b.Put(t.Context(), "step-1/large", large))
			require.NoError(t, other.Put(t.Context(), "step-1/elsewhere", small))
			for key, want := range map[string][]byte{"step-1/small": text, "step-1/large": much} {
				r, err := b.Get(t.Context(), key)
				require.NoError(t, err)
				got, err := io.ReadAll(r)
				require.NoError(t, err)
				require.NoError(t, r.Close())
				require.True(t, bytes.Equal(want, got), key)
			}
			list, err := b.List(t.Context(), "step-")
			require.NoError(t, err)
			require.ElementsMatch(t, []mirror.Object{{Key: "step-1/small", Size: 1000}, {Key: "step-1/large", Size: int64(len(much))}}, list)
			require.NoError(t, b.Delete(t.Context(), "step-1/small"))
			_, err = b.Get(t.Context(), "step-1/small")
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorIs(t, b.Put(t.Context(), "step-1/x", small+"-gone"), fs.ErrNotExist)
		})
	}
}

// largest is the size of a file: of more than one part, but not for the server in this
// process, which stores the framing of parts with them.
func largest(server string) int {
	if server == "real" {
		return 33 << 20
	}
	return 3 << 20
}

// save makes a checkpoint with files of about so many bytes.
func save(t *testing.T, store *checkpoint.Store, step int64, bytes int) string {
	t.Helper()
	v := func(name string) []checkpoint.Tensor {
		data := make([]float32, bytes/4)
		for i := range data {
			data[i] = float32(step) + float32(i%1000)
		}
		return []checkpoint.Tensor{{Name: name, Shape: []int{len(data)}, Data: data}}
	}
	info, err := store.Save(t.Context(), &checkpoint.Snapshot{
		Step: step, Updates: step, Config: []byte("x: 1\n"), UNetConfig: []byte("{}"), SchedulerConfig: []byte("{}"),
		Model: v("w"), EMA: v("w"), Optimizer: v("m.w"),
	})
	require.NoError(t, err)
	return info.Path
}

func TestPushAndRestore(t *testing.T) {
	credentials(t)
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			here := checkpoint.Open(filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{})
			d10, d20 := save(t, here, 10, 1000), save(t, here, 20, largest(name)*2/3)
			m := mirror.New(open(t, start(t), s3test.Bucket, "run"), mirror.Options{Keep: 1})
			require.NoError(t, m.Push(t.Context(), d10))
			require.NoError(t, m.Push(t.Context(), d20))
			steps, err := m.Steps(t.Context())
			require.NoError(t, err)
			require.Equal(t, []int64{20}, steps)
			there := checkpoint.Open(filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{})
			info, ok, skipped, err := m.Restore(t.Context(), there, -1)
			require.NoError(t, err)
			require.True(t, ok)
			require.Empty(t, skipped)
			require.Equal(t, int64(20), info.Step)
			a, err := os.ReadFile(filepath.Join(d20, "manifest.json"))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(info.Path, "manifest.json"))
			require.NoError(t, err)
			require.Equal(t, string(a), string(b), "bit for bit")
		})
	}
}

// An upload that is cut in the middle of a file leaves no checkpoint, and the parts that
// it leaves are freed.
func TestCutUpload(t *testing.T) {
	credentials(t)
	endpoint := s3test.Real(t)
	here := checkpoint.Open(filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{})
	dir := save(t, here, 10, 20<<20)
	ctx, cut := context.WithCancel(t.Context())
	front := s3test.Refuse(t, endpoint, http.StatusServiceUnavailable, func(r *http.Request) bool {
		if r.URL.Query().Get("partNumber") == "2" && strings.Contains(r.URL.Path, "optimizer") {
			cut() // as if the process had been killed here
			return true
		}
		return ctx.Err() != nil // a dead process sends no word, an abort neither
	})
	require.Error(t, mirror.New(open(t, front, s3test.Bucket, "run"), mirror.Options{}).Push(ctx, dir))

	b := open(t, endpoint, s3test.Bucket, "run")
	m := mirror.New(b, mirror.Options{})
	steps, err := m.Steps(t.Context())
	require.NoError(t, err)
	require.Empty(t, steps, "not complete")
	unfinished := func() (n int) {
		for o := range s3test.Client(t, endpoint).ListIncompleteUploads(t.Context(), s3test.Bucket, "run/", true) {
			require.NoError(t, o.Err)
			n++
		}
		return n
	}
	require.Equal(t, 1, unfinished())
	require.NoError(t, b.Abort(t.Context()))
	require.Zero(t, unfinished())
	require.NoError(t, m.Push(t.Context(), dir))
	_, ok, _, err := m.Restore(t.Context(), checkpoint.Open(filepath.Join(t.TempDir(), "checkpoints"), checkpoint.Options{}), -1)
	require.NoError(t, err)
	require.True(t, ok)
}

// A server that is busy for a moment is asked again; one that stays so is no permanent
// refusal.
func TestBusyServer(t *testing.T) {
	credentials(t)
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			path, _ := file(t, 100)
			var busy atomic.Int32
			front := s3test.Refuse(t, start(t), http.StatusServiceUnavailable, func(*http.Request) bool { return busy.Add(-1) >= 0 })
			b := open(t, front, s3test.Bucket, "run")
			busy.Store(1)
			require.NoError(t, b.Put(t.Context(), "step-1/a", path))
			busy.Store(1000)
			err := b.Put(t.Context(), "step-1/b", path)
			var remote *mirror.Error
			require.ErrorAs(t, err, &remote)
			require.False(t, remote.Permanent)
			busy.Store(0)
			_, err = b.Get(t.Context(), "step-1/b")
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestRefusals(t *testing.T) {
	credentials(t)
	endpoint := s3test.Real(t)
	path, _ := file(t, 100)
	for name, c := range map[string]struct {
		bucket, access, secret string
		want                   []string
	}{
		"no such bucket": {"nowhere", s3test.Access, s3test.Secret, []string{"s3://nowhere/run", "there is no such bucket; make the bucket nowhere first"}},
		"wrong user":     {s3test.Bucket, "somebody", s3test.Secret, []string{"check the credentials (AWS_ACCESS_KEY_ID"}},
		"wrong password": {s3test.Bucket, s3test.Access, "guess", []string{"check the credentials (AWS_ACCESS_KEY_ID"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", c.access)
			t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			b := open(t, endpoint, c.bucket, "run")
			_, listed := b.List(t.Context(), "step-")
			_, read := b.Get(t.Context(), "step-1/a")
			for _, err := range []error{listed, read, b.Put(t.Context(), "step-1/a", path), b.Abort(t.Context())} {
				var remote *mirror.Error
				require.ErrorAs(t, err, &remote)
				require.True(t, remote.Permanent, err)
				for _, w := range c.want {
					require.ErrorContains(t, err, w)
				}
				require.NotContains(t, err.Error(), "\n")
				require.NotContains(t, err.Error(), c.secret)
			}
		})
	}
}

// Without credentials at all nothing is asked without a signature by mistake.
func TestNoCredentials(t *testing.T) {
	credentials(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := open(t, s3test.Real(t), s3test.Bucket, "run").List(t.Context(), "step-")
	var remote *mirror.Error
	require.ErrorAs(t, err, &remote)
	require.Contains(t, remote.Advice, "AWS_ACCESS_KEY_ID")
}

// A mounted file is as good as variables.
func TestCredentialsFile(t *testing.T) {
	credentials(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	path := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, os.WriteFile(path, []byte("[default]\naws_access_key_id = "+s3test.Access+"\naws_secret_access_key = "+s3test.Secret+"\n"), 0o600))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	_, err := open(t, s3test.Real(t), s3test.Bucket, "run").List(t.Context(), "step-")
	require.NoError(t, err)
}

// What can be no bucket is refused without asking.
func TestBucketName(t *testing.T) {
	for _, name := range []string{"b", "a..b", "My_Bucket!"} {
		_, err := s3.Open(s3.Config{Bucket: name, Prefix: "p"})
		require.ErrorContains(t, err, name)
	}
}

func TestEndpoint(t *testing.T) {
	for _, e := range []string{"minio:9000", "ftp://h", "http://h/sub", "http://"} {
		_, err := s3.Open(s3.Config{Bucket: "bucket", Prefix: "p", Endpoint: e})
		require.ErrorContains(t, err, "write https://HOST or http://HOST:PORT", e)
	}
}
