package security

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A run that stays on the loopback interface needs no secret of its user: it makes
// one. A port of 127.0.0.1 is open to every user of the machine, though, so the
// secret must reach the run's other processes and nobody else:
//
//	workers      by an inherited pipe (package worker/spec)
//	the same run, started again, and who controls it    RUN/secret, mode 0600
//	other nodes on this machine, which know an address  a file under localDir, mode 0600
//
// The files belong to the user who runs, and no other user can read them.

// ErrNoLocalSecret reports an address at which no run of this user waits.
var ErrNoLocalSecret = errors.New("security: no run of this user")

// KeepSecret returns the secret in the file at path, or makes one and writes it there.
// A file that other users can read or write is refused, and so is one on a file
// system that knows no modes.
func KeepSecret(path string) ([]byte, error) {
	secret, err := LoadSecretFile(path)
	switch {
	case errors.Is(err, ErrWeakSecret): // it was cut short, for nobody else writes it
		return nil, fmt.Errorf("%w: %s, the secret that this run made for itself, is damaged: remove the file, and the run makes another one", ErrSecretFile, path)
	case !errors.Is(err, fs.ErrNotExist):
		return secret, err
	}
	secret = GenerateSecret()
	if err := writeSecret(path, secret); err != nil {
		return nil, err
	}
	// Of two that come at once, the last one's counts for both.
	return LoadSecretFile(path)
}

// writeSecret puts a secret in a file of this user alone; nobody sees half of it.
func writeSecret(path string, secret []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	_, err = f.Write(append(append([]byte(nil), secret...), '\n'))
	if err == nil {
		err = f.Sync() // or a power cut leaves an empty file of that name
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("%w: write %s: %w", ErrSecretFile, path, err)
	}
	return nil
}

// PublishLocal leaves the secret of the run at addr (HOST:PORT) where LocalSecret of the
// same user on this machine finds it, and returns what takes it away again.
func PublishLocal(addr string, secret []byte) (remove func(), err error) {
	dir, err := localDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, localName(addr))
	if err := writeSecret(path, secret); err != nil {
		return nil, err
	}
	return func() { _ = os.Remove(path) }, nil
}

// LocalSecret returns the secret of the run of this user at addr; ErrNoLocalSecret if
// there is none.
func LocalSecret(addr string) ([]byte, error) {
	dir, err := localDir()
	if err != nil {
		return nil, err
	}
	secret, err := LoadSecretFile(filepath.Join(dir, localName(addr)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w waits at %s", ErrNoLocalSecret, addr)
	}
	return secret, err
}

func localName(addr string) string {
	if port, ok := strings.CutPrefix(addr, "localhost:"); ok {
		addr = "127.0.0.1:" + port
	}
	return strings.NewReplacer("/", "_", ":", "_", "[", "", "]", "").Replace(addr) + ".secret"
}

// localDir is a directory of this user alone: /run/user/UID/agrdist, or in /tmp where
// the system keeps none for users. It does not follow the environment, so that two
// shells agree.
func localDir() (string, error) {
	uid := strconv.Itoa(os.Getuid())
	dir := filepath.Join("/run/user", uid)
	if owned(dir) == nil {
		dir = filepath.Join(dir, "agrdist")
	} else {
		dir = filepath.Join("/tmp", "agrdist-"+uid)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%w: %w", ErrSecretFile, err)
	}
	if err := owned(dir); err != nil {
		return "", fmt.Errorf("%w: %w: remove it, or give the run a secret (%s)", ErrSecretFile, err, howToSet)
	}
	return dir, nil
}
