//go:build unix

package security

import (
	"fmt"
	"os"
	"syscall"
)

// owned checks that path is a directory, no link, that this user owns and others
// can neither read nor change.
func owned(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err //nolint:wrapcheck // it names the path
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory that only this user can use (%s)", path, info.Mode())
	}
	return nil
}
