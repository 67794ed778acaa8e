package kernel

import (
	"encoding/binary"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/isa"
)

// The maker that CPUID names is the one that Linux names, and decides alone where
// the instruction is there.
func TestVendor(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip("no /proc/cpuinfo")
	}
	want := regexp.MustCompile(`vendor_id\s*: (\S+)`).FindSubmatch(info)
	require.Len(t, want, 2)
	b, d, c := vendor()
	var name []byte
	for _, letters := range []uint32{b, d, c} {
		name = binary.LittleEndian.AppendUint32(name, letters)
	}
	require.Equal(t, string(want[1]), string(name))
	fast := string(name) == "AuthenticAMD" && isa.AVX512BF16.Runs()
	require.Equal(t, fast, BestBF16() == AVX512BF16)
}
