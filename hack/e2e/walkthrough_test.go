//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What docs/kubernetes.md shows as a terminal is what the test has printed.
func TestDocumentQuotesTheTranscript(t *testing.T) {
	printed, err := os.ReadFile("testdata/walkthrough.txt")
	require.NoError(t, err)
	doc, err := os.ReadFile("../../docs/kubernetes.md")
	require.NoError(t, err)
	blocks := strings.Split(string(doc), "```console\n")[1:]
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		b, _, ok := strings.Cut(b, "```")
		require.True(t, ok)
		require.Contains(t, string(printed), b)
	}
}

func TestNormal(t *testing.T) {
	a := "$ kubectl -n train get pods\nNAME              READY   STATUS    RESTARTS   AGE\nagrdist-0-abcde   1/1     Running   0          41s\nagrdist-1-fghij   1/1     Running   0          41s\n"
	b := "$ kubectl -n train get pods\nNAME   READY STATUS  RESTARTS AGE\nagrdist-2-zzzzz  1/1  Running   0     2m3s\n"
	require.Equal(t, normal(a), normal(b))
	require.NotEqual(t, normal(a), normal(strings.Replace(a, "Running", "Pending", 1)))
}
