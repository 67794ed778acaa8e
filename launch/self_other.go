//go:build !linux

package launch

import (
	"fmt"
	"os"
)

// self is the file of this program.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program's file: %w", err)
	}
	return path, nil
}
