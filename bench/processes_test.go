package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/internal/leaktest"
)

const rankEnv = "AGRDIST_BENCH_TEST_RANK"

// TestMain: the test binary is also the process of a rank.
func TestMain(m *testing.M) {
	if os.Getenv(rankEnv) == "" {
		leaktest.Main(m)
	}
	if err := AllReduceRank(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestAllReduceAmongProcesses(t *testing.T) {
	t.Setenv(rankEnv, "1")
	c := AllReduceConfig{World: 3, From: 4, To: 65_536, Factor: 128, Iterations: 2, Command: []string{os.Args[0]}}
	for _, private := range []bool{false, true} {
		c.Private, c.TCP = private, private
		var got []AllReduceResult
		require.NoError(t, AllReduce(t.Context(), c, func(r AllReduceResult) { got = append(got, r) }))
		require.Len(t, got, 3)
		for _, r := range got {
			require.Equal(t, "processes", r.Ranks)
			require.Positive(t, r.Millis)
			if private {
				require.Equal(t, "private", r.Memory)
				require.Equal(t, "tcp, mac", r.Via)
			}
		}
	}
	c.Command = []string{filepath.Join(t.TempDir(), "nothing")}
	require.ErrorContains(t, AllReduce(t.Context(), c, nil), "process of rank 1")
}

func TestAllReduceRankRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":   "",
		"no JSON":   "hello\n",
		"no config": "{}\n",
		"peers":     `{"Rank":1,"Config":{"World":2,"From":4,"To":4,"Factor":2,"Iterations":1}}` + "\n127.0.0.1:1\n",
		"rank":      `{"Rank":2,"Config":{"World":2,"From":4,"To":4,"Factor":2,"Iterations":1}}` + "\n127.0.0.1:1 127.0.0.1:2\n",
	} {
		require.Error(t, AllReduceRank(t.Context(), strings.NewReader(in), &strings.Builder{}), name)
	}
}
