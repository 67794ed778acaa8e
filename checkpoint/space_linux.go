package checkpoint

import (
	"path/filepath"
	"syscall"
)

// filesOfACheckpoint is more than a checkpoint has, its directory included.
const filesOfACheckpoint = 16

// outOfInodes tells whether the volume of dir, or of the nearest directory above it that
// is there, has room for need bytes but not for the files of a checkpoint. What was
// written in vain has been removed already.
func outOfInodes(dir string, need int64) bool {
	var st syscall.Statfs_t
	for {
		err := syscall.Statfs(dir, &st)
		if err == nil {
			// Some file systems count no inodes.
			return st.Files > 0 && st.Ffree < filesOfACheckpoint && int64(st.Bavail)*st.Bsize >= need
		}
		up := filepath.Dir(dir)
		if up == dir {
			return false
		}
		dir = up
	}
}
