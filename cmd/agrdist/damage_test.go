package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The small files of a run that every start reads: a flipped bit in any of them is one
// line that names the file and the way out, and that way leads to the run's newest
// checkpoint and the same model.
func TestDamagedRecords(t *testing.T) {
	flip := func(path string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		text[len(text)/2] ^= 4
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
	refuses := func(p *process, path string) {
		p.ended(exitFailed)
		line := p.stderr.String()
		require.Contains(t, line, path)
		require.Contains(t, line, "move")
		require.Contains(t, line, "no checkpoint is affected")
	}
	for name, file := range map[string]string{"journal": "coordinator.json", "identity": "nodes/*.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startNodes(t, 2, "--set", "train.steps=100000")
			whole := s.world(s.agents[0], 2, 0)
			s.agents[0].saved(s.dirs[0])
			for _, p := range s.agents {
				p.signal(syscall.SIGKILL)
			}
			for _, p := range s.agents {
				p.wait()
			}
			newest, _ := newestOn(t, s.dirs[0])
			found, err := filepath.Glob(filepath.Join(s.dirs[0], file))
			require.NoError(t, err)
			require.Len(t, found, 1)
			flip(found[0])
			refuses(s.again(0), found[0])
			require.NoError(t, os.Rename(found[0], found[0]+".damaged"))
			if name == "identity" { // the name is that of the logs
				logs, err := filepath.Glob(filepath.Join(s.dirs[0], "logs", "*-agent.log"))
				require.NoError(t, err)
				require.Len(t, logs, 1)
				s.command[0] = append(s.command[0], "--set", "cluster.node="+strings.TrimSuffix(filepath.Base(logs[0]), "-agent.log"))
			}
			a := s.again(0)
			s.command[1][len(s.command[1])-1] = a.says(`--join (\S+)`) // the port was in the identity
			s.again(1)
			again := s.world(s.agents[0], 2, whole.Generation)
			require.Equal(t, seats(whole), seats(again), "the same nodes")
			require.GreaterOrEqual(t, again.Step, newest)
			s.step(s.agents[0], again.Generation, again.Step+2)
			s.agents[0].signal(syscall.SIGINT)
			for _, p := range s.agents {
				p.ended(exitSignal)
			}
			step, digest := s.saved()
			requireAlone(t, step, digest)
		})
	}
}
