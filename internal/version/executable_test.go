package version

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExecutable(t *testing.T) {
	path, err := os.Executable()
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	want := sha256.Sum256(b)
	got, err := Executable()
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(want[:]), got)
}
