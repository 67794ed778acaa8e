//go:build unix && !linux

package supervise

import "syscall"

// sysProcAttr makes the process lead its own group. There is no parent-death
// signal here: the worker notices the end of its stdin.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitZombie cannot tell: waitid(WNOWAIT) also returns for a process that is
// merely stopped (golang.org/issue/19314).
func awaitZombie(int) bool { return false }

// reapGroup is a no-op: orphans fall to process 1, which is never this one.
func reapGroup(int) {}
