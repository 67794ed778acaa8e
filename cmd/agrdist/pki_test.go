package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The flags that agrdist pki prints let nodes train together, under the names in their
// certificates; one that shows another authority's is told so and gives up.
func TestNodesWithCertificates(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	certify := func(dir string) map[string][]string {
		t.Helper()
		out := run(t, "pki", "init", filepath.Join(root, dir), "east", "west").ended(exitOK).stdout.String()
		flags := map[string][]string{}
		for _, m := range regexp.MustCompile(`(?m)^(\w+), until \S+: (.*)$`).FindAllStringSubmatch(out, -1) {
			flags[m[1]] = strings.Fields(m[2])
		}
		require.Len(t, flags, 2, out)
		return flags
	}
	ours, theirs := certify("ours"), certify("theirs")
	node := func(dir string, more ...string) *process {
		return start(t, training(filepath.Join(root, dir), append([]string{"--nodes", "2", "--workers", "1"}, more...)...)...)
	}
	a := node("a", ours["east"]...)
	seed := a.says(`--join (\S+)`)
	stranger := node("stranger", append([]string{"--join", seed, "--set", "cluster.start_timeout=5s"}, theirs["west"]...)...)
	require.Contains(t, stranger.ended(exitFailed).stderr.String(), "cluster.ca_file")
	impostor := node("impostor", append([]string{"--join", seed, "--set", "cluster.node=north"}, ours["west"]...)...)
	require.Contains(t, impostor.ended(exitConfig).stderr.String(), `is of node "west", and this one is "north"`)

	b := node("b", append([]string{"--join", seed}, ours["west"]...)...)
	b.ended(exitOK)
	a.ended(exitOK)
	require.Equal(t, finish(t, reference(t)).ModelDigest, finish(t, filepath.Join(root, "a")).ModelDigest)
	require.FileExists(t, filepath.Join(root, "b", "nodes", "west.json"))
}
