package cpu

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// The kernel's flags of the memory in the middle of a large buffer.
func TestLargeBuffersAskForLargePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("the kernel has no large pages")
	}
	data := aligned[float32](4 * hugePage / 4)
	maps, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer func() { require.NoError(t, maps.Close()) }()
	at := uintptr(unsafe.Pointer(&data[len(data)/2]))
	inside := false
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var lo, hi uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &lo, &hi); n == 2 {
			inside = lo <= at && at < hi
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			require.Contains(t, strings.Fields(flags), "hg")
			return
		}
	}
	require.Fail(t, "the buffer is in no mapping")
}
