package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWarnings(t *testing.T) {
	var out strings.Builder
	w := &warnings{&out}
	in := `[worker-0] time=2026-11-23T16:02:41Z level=INFO msg="group connected" rank=0
[worker-0] time=2026-11-23T16:02:42Z level=WARN msg="step skipped" step=3
[worker-1] panic: boom
[worker-1] agrdist: no room
`
	n, err := w.Write([]byte(in))
	require.NoError(t, err)
	require.Equal(t, len(in), n)
	require.Equal(t, "[worker-0] msg=\"step skipped\" step=3\n[worker-1] panic: boom\n", out.String())
}
