//go:build unix && !linux

package supervise_test

import (
	"os/exec"
	"strconv"
	"strings"
)

const hasDeathSignal = false

func clearDeathSignal() {}

// alive reports whether the process exists and is no zombie.
func alive(pid int) bool {
	out, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	state := strings.TrimSpace(string(out))
	return state != "" && !strings.HasPrefix(state, "Z")
}
