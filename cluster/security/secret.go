package security

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// MinSecretBytes is the least length of a secret after trimming white space.
const MinSecretBytes = 16

const (
	minDistinctBytes = 6       // "aaaaaaaaaaaaaaaa" is long and still no secret
	maxSecretFile    = 4 << 10 // bytes; more is a wrong file, not a secret
	howToSet         = "set AGRDIST_CLUSTER_SECRET or cluster.secret_file"
)

var (
	// ErrWeakSecret reports a secret that is too short or too regular.
	ErrWeakSecret = errors.New("security: weak secret")
	// ErrSecretFile reports a secret file that cannot be used as it is.
	ErrSecretFile = errors.New("security: secret file")
	// ErrSecretRequired reports an address beyond loopback without a secret.
	ErrSecretRequired = errors.New("security: secret required")
)

// GenerateSecret returns a fresh secret: 32 random bytes as base64url text
// (43 characters), fit for an environment variable or a file.
func GenerateSecret() []byte {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // crypto/rand.Read never returns an error since Go 1.24
	text := make([]byte, base64.RawURLEncoding.EncodedLen(len(raw)))
	base64.RawURLEncoding.Encode(text, raw[:])
	return text
}

// MaxSecrets is how many secrets a node accepts at a time: the one it uses, and during
// a rotation another one.
const MaxSecrets = 2

// ParseSecrets reads what a secret file says: one secret, or two, a line each. The first
// is in use, the second is only accepted; see MayFollow. White space around them and empty
// lines do not count.
func ParseSecrets(text string) ([][]byte, error) {
	var lines []string
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) <= 1 {
		one, err := ParseSecret(strings.Join(lines, ""))
		return [][]byte{one}, err
	}
	if len(lines) > MaxSecrets {
		return nil, fmt.Errorf("%w: %d lines, want one secret, or the one in use and below it another one that is accepted too", ErrWeakSecret, len(lines))
	}
	var secrets [][]byte
	for i, line := range lines {
		if !isText(line) { // random bytes with a line break among them
			return nil, fmt.Errorf("%w: line %d is not text: make a secret with openssl rand -base64 32", ErrWeakSecret, i+1)
		}
		s, err := ParseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		secrets = append(secrets, s)
	}
	if bytes.Equal(secrets[0], secrets[1]) {
		return nil, fmt.Errorf("%w: both lines are the same secret", ErrWeakSecret)
	}
	return secrets, nil
}

// isText tells whether s is UTF-8 without control characters.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// ParseSecret trims white space around text and checks that what is left is fit
// to be a secret: at least MinSecretBytes long and not one character repeated.
// The check catches accidents (an empty variable, "xxxxxxxxxxxxxxxx"), not bad
// passwords: use GenerateSecret.
func ParseSecret(text string) ([]byte, error) {
	s := strings.TrimSpace(text)
	if len(s) < MinSecretBytes {
		return nil, fmt.Errorf("%w: %d bytes, need at least %d (make one with: head -c 32 /dev/urandom | base64)",
			ErrWeakSecret, len(s), MinSecretBytes)
	}
	var seen [256]bool
	distinct := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			distinct++
		}
	}
	if distinct < minDistinctBytes {
		return nil, fmt.Errorf("%w: only %d different characters (make one with: head -c 32 /dev/urandom | base64)",
			ErrWeakSecret, distinct)
	}
	return []byte(s), nil
}

// LoadSecretFile reads a secret from a file that only its owner can read. A file
// open to the group or the world is refused, as ssh refuses such a key.
func LoadSecretFile(path string) ([]byte, error) { return loadSecret(path, ParseSecret) }

// LoadSecrets is LoadSecretFile for a file that may have two secrets; see ParseSecrets.
func LoadSecrets(path string) ([][]byte, error) { return loadSecret(path, ParseSecrets) }

func loadSecret[T any](path string, parse func(string) (T, error)) (none T, err error) {
	data, err := readSecretFile(path)
	if err != nil {
		return none, err
	}
	secret, err := parse(string(data))
	if err != nil {
		return none, fmt.Errorf("%w: %s: %w", ErrSecretFile, path, err)
	}
	return secret, nil
}

func readSecretFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe is opened too, and refused below
	if err != nil {
		return nil, fmt.Errorf("%w: %w (write one secret into it, the same on every node)", ErrSecretFile, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat() // of the opened file: nobody can swap it in between
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file (%s)", ErrSecretFile, path, info.Mode().Type())
	}
	if !private(info) {
		return nil, fmt.Errorf("%w: %s has mode %#o, so others can read the secret: run chmod 600 %s "+
			"(or pass it in AGRDIST_CLUSTER_SECRET)", ErrSecretFile, path, info.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrSecretFile, path, err)
	}
	if len(data) > maxSecretFile {
		return nil, fmt.Errorf("%w: %s holds more than %d bytes: that is not a secret", ErrSecretFile, path, maxSecretFile)
	}
	return data, nil
}

// RequireSecretBeyondLoopback returns an error that says how to fix it if addr
// (HOST:PORT or HOST) can be reached from other hosts while there is no secret.
// An empty host and the unspecified addresses mean every interface. A host name
// other than localhost counts as beyond loopback: what it resolves to may change.
func RequireSecretBeyondLoopback(addr string, secret []byte) error {
	if len(secret) > 0 || isLoopback(addr) {
		return nil
	}
	return fmt.Errorf("%w: %q can be reached from other hosts and the cluster has no secret: "+
		"%s to the same value on every node, or bind to 127.0.0.1", ErrSecretRequired, addr, howToSet)
}

func isLoopback(addr string) bool {
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// private tells whether others than the owner, and root's group of choice, cannot read a file.
func private(info os.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 || rootForGroup(info) }

// rootForGroup reports whether root wrote the file for a group of this process, as
// Kubernetes does with a secret's volume and fsGroup: mode 0440.
func rootForGroup(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o037 != 0 || stat.Uid != 0 || os.Geteuid() == 0 {
		return false
	}
	groups, err := os.Getgroups()
	return err == nil && (int(stat.Gid) == os.Getegid() || slices.Contains(groups, int(stat.Gid)))
}
