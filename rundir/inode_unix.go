//go:build unix

package rundir

import (
	"fmt"
	"os"
	"syscall"
)

// inode tells a directory from its copy; "" where that is not known.
func inode(path string) string {
	st, err := os.Lstat(path)
	if err != nil {
		return ""
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprint("-", s.Ino)
}
