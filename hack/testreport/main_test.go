package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const transcript = `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"=== RUN A\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"B","Output":"--- SKIP: B\n"}
{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:3: needs a GPU\n"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`

func TestReport(t *testing.T) {
	var out strings.Builder
	ok, err := report(strings.NewReader(transcript), &out)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "ok    p 1.5s\nskip  p B: b_test.go:3: needs a GPU\n1 packages\n1 passed, 0 failed, 1 skipped\n", out.String())
}

func TestReportFailure(t *testing.T) {
	var out strings.Builder
	ok, err := report(strings.NewReader(transcript+
		`{"Action":"output","Package":"q","Test":"C","Output":"boom\n"}`+"\n"+`{"Action":"fail","Package":"q","Test":"C"}`+"\n"), &out)
	require.NoError(t, err)
	require.False(t, ok)
	require.Contains(t, out.String(), "FAIL  q C\nboom\n")
	require.Contains(t, out.String(), "1 passed, 1 failed, 1 skipped")
}

func TestNoTestsAtAllIsAFailure(t *testing.T) {
	var out strings.Builder
	ok, err := report(strings.NewReader(""), &out)
	require.NoError(t, err)
	require.False(t, ok)
}
