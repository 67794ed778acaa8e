//go:build !linux

package agent

import "os"

// heldState is nil: this system has no memory that two processes can name.
func (a *Agent) heldState() *os.File { return nil }
