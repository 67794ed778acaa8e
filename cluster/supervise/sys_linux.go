package supervise

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sysProcAttr makes the process lead its own group and die with the forking thread.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitZombie blocks until the process has ended and leaves it a zombie: until
// it is reaped, nobody else gets its id. False means that it cannot tell.
func awaitZombie(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// reapGroup reaps members of a dead process's group that have become children of
// this process: where it is process 1 of a container, killed grandchildren fall
// to it and would stay zombies. They have been sent SIGKILL already.
func reapGroup(pgid int) {
	const tries, pause = 100, 10 * time.Millisecond
	for range tries {
		pid, err := unix.Wait4(-pgid, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && pid > 0: // one gone, there may be more
		case err != nil: // ECHILD: no such child
			return
		default: // still dying
			<-time.After(pause)
		}
	}
}
