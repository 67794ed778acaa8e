package security

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	oldSecret = []byte("correct horse battery staple")
	newSecret = []byte("Tr0ub4dor&3 and three more")
)

// phases are the secrets of a node during a rotation.
var phases = [][][]byte{{oldSecret}, {oldSecret, newSecret}, {newSecret, oldSecret}, {newSecret}}

func TestParseSecrets(t *testing.T) {
	a, b := "0123456789abcdef", "fedcba9876543210"
	for text, want := range map[string][][]byte{
		a:                               {[]byte(a)},
		" " + a + " \n":                 {[]byte(a)},
		a + "\n" + b:                    {[]byte(a), []byte(b)},
		"\r\n" + a + "\r\n\n" + b + " ": {[]byte(a), []byte(b)},
		a + " with spaces\n":            {[]byte(a + " with spaces")},
	} {
		got, err := ParseSecrets(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, got)
	}
	for text, says := range map[string]string{
		"":                                 "0 bytes, need at least 16",
		"\n\n":                             "0 bytes",
		a + "\nshort":                      "line 2: ",
		"short\n" + a:                      "line 1: ",
		a + "\n" + a:                       "the same secret",
		a + "\n" + b + "\n" + a:            "3 lines",
		a + "\n" + b + "\x00":              "line 2 is not text",
		a + "\xff\n" + b:                   "line 1 is not text",
		a + "\n" + strings.Repeat("a", 40): "line 2: ",
	} {
		_, err := ParseSecrets(text)
		require.ErrorIs(t, err, ErrWeakSecret, "%q", text)
		require.ErrorContains(t, err, says, "%q", text)
		require.NotContains(t, err.Error(), a, "no part of a secret is said")
	}
}

// Whatever a file holds, what comes of it are one or two secrets that differ, or one line
// that says nothing of it.
func FuzzParseSecrets(f *testing.F) {
	f.Add("0123456789abcdef\nfedcba9876543210\n")
	f.Add("\r\n \t0123456789abcdef")
	f.Add("\x00\n\xff\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseSecrets(text)
		if err != nil {
			require.ErrorIs(t, err, ErrWeakSecret)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), MaxSecrets)
		for _, s := range got {
			require.GreaterOrEqual(t, len(s), MinSecretBytes)
			again, err := ParseSecret(string(s))
			require.NoError(t, err)
			require.Equal(t, s, again)
			require.Contains(t, text, string(s))
		}
		if len(got) == 2 {
			require.NotEqual(t, got[0], got[1])
			again, err := ParseSecrets(string(bytes.Join(got, []byte("\n"))))
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	})
}

// Nodes that are in one phase of a rotation or in two that follow each other accept each
// other, whoever serves; and a node comes from a phase into the next one or the one before,
// and nowhere else.
func TestRotation(t *testing.T) {
	at := func(phase int) *Keys {
		k := keys(t, oldSecret, "run", "a")
		require.NoError(t, k.Replace(phases[phase]))
		return k
	}
	for i := range phases {
		for j := range phases {
			serverErr, clientErr := handshake(t, at(i).ServerCredentials(), at(j).ClientCredentials())
			near := i-j <= 1 && j-i <= 1
			if near {
				require.NoError(t, serverErr, "phases %d and %d", i, j)
				require.NoError(t, clientErr, "phases %d and %d", i, j)
				require.NoError(t, MayFollow(phases[i], phases[j]))
			} else {
				require.Error(t, clientErr, "phases %d and %d", i, j)
				require.ErrorIs(t, MayFollow(phases[i], phases[j]), ErrRotation)
			}
		}
	}
	require.ErrorIs(t, MayFollow(nil, phases[0]), ErrRotation)
}

// Credentials that are in use follow the secrets: a server that has served for long, and a
// client that dials again.
func TestCredentialsFollowTheSecret(t *testing.T) {
	server, client := keys(t, oldSecret, "run", "a"), keys(t, oldSecret, "run", "b")
	serve, dial := server.ServerCredentials(), client.ClientCredentials()
	for i, phase := range phases {
		require.NoError(t, server.Replace(phase))
		serverErr, clientErr := handshake(t, serve, dial)
		require.NoError(t, serverErr, "the server is ahead in phase %d", i)
		require.NoError(t, clientErr)
		require.NoError(t, client.Replace(phase))
		serverErr, clientErr = handshake(t, serve, dial)
		require.NoError(t, serverErr, "phase %d", i)
		require.NoError(t, clientErr)
	}
	_, clientErr := handshake(t, serve, keys(t, oldSecret, "run", "b").ClientCredentials())
	require.ErrorIs(t, clientErr, ErrWrongSecret)
	require.NotContains(t, clientErr.Error(), "\n")
	serverErr, _ := handshake(t, serve, keys(t, oldSecret, "run", "b").ClientCredentials())
	require.ErrorIs(t, serverErr, ErrRefused)
}

func TestReplaceRefusals(t *testing.T) {
	k := keys(t, oldSecret, "run", "a")
	before := k.Fingerprints()
	for _, bad := range [][][]byte{nil, {oldSecret, newSecret, []byte("a third secret of all")}, {[]byte("short")}, {newSecret, []byte("short")}} {
		require.ErrorIs(t, k.Replace(bad), ErrWeakSecret)
	}
	require.Equal(t, before, k.Fingerprints())
	require.NoError(t, k.Replace([][]byte{newSecret, oldSecret}))
	after := k.Fingerprints()
	require.Equal(t, before[0], after[1])
	require.NotEqual(t, after[0], after[1])
	require.Len(t, after[0], 6)
	require.NotEqual(t, before, keys(t, oldSecret, "another run", "a").Fingerprints())
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write(string(oldSecret))
	w := NewWatch(path, [][]byte{oldSecret})
	nothing := func(why string) {
		t.Helper()
		got, err := w.Look()
		require.NoError(t, err, why)
		require.Nil(t, got, why)
	}
	changes := func(want ...[]byte) {
		t.Helper()
		nothing("it may be half written")
		got, err := w.Look()
		require.NoError(t, err)
		require.Equal(t, want, got)
		nothing("it is said once")
	}
	refuses := func(says ...string) {
		t.Helper()
		nothing("it may be half written")
		_, err := w.Look()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "\n")
		for _, s := range says {
			require.ErrorContains(t, err, s)
		}
		nothing("it is said once")
		nothing("it is said once")
	}
	nothing("as before")
	nothing("as before")
	write(string(oldSecret) + "\n" + string(newSecret)[:20]) // half of the next one
	nothing("half of it")
	write(string(oldSecret) + "\n" + string(newSecret) + "\n")
	changes(oldSecret, newSecret)
	write(string(newSecret))
	refuses("the secret in use is not in the file")
	write(string(newSecret) + "\n" + string(oldSecret))
	changes(newSecret, oldSecret)
	write("short")
	refuses(path, "at least 16")
	require.NoError(t, os.Remove(path))
	refuses(path, "no such file")
	write(string(newSecret) + "\n" + string(oldSecret))
	nothing("as before")
	nothing("as before")
	write("short")
	refuses(path, "at least 16")
	require.NoError(t, os.Chmod(path, 0o644))
	refuses("chmod 600 " + path)
	require.NoError(t, os.Chmod(path, 0o600))
	write(string(newSecret))
	changes(newSecret)
	write("a secret that nobody accepts\n" + string(newSecret))
	refuses("its first secret is new")

	// Kubernetes replaces a mounted Secret by a symbolic link to another directory.
	dir := t.TempDir()
	for name, text := range map[string][]byte{"..1": newSecret, "..2": append(append(bytes.Clone(newSecret), '\n'), oldSecret...)} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "secret"), text, 0o600))
	}
	require.NoError(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/secret", filepath.Join(dir, "secret")))
	w = NewWatch(filepath.Join(dir, "secret"), [][]byte{newSecret})
	nothing("as before")
	require.NoError(t, os.Symlink("..2", filepath.Join(dir, "..new")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
	changes(newSecret, oldSecret)
}
