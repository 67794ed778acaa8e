package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/worker/spec"
)

// Other secrets reach everybody: workers that run by their pipes, those that start later by
// their specs, and the other nodes hear of them. What cannot be used changes nothing.
func TestSecretsReachTheWorkers(t *testing.T) {
	c, err := config.Load(config.Source{})
	require.NoError(t, err)
	w := &world{t: t}
	oldSecrets, newSecrets := [][]byte{security.GenerateSecret()}, [][]byte{security.GenerateSecret(), security.GenerateSecret()}
	var specs []spec.Spec
	rotated := 0
	a := newAgent(Config{
		Run: c, RunDir: t.TempDir(), Node: "n1", Logger: discard, Secrets: oldSecrets, Rotation: make(chan [][]byte),
		Rotated: func(secrets [][]byte, names []string) {
			require.Equal(t, newSecrets, secrets)
			require.Len(t, names, 2)
			rotated++
		},
		Command: func(_ int, s spec.Spec) (supervise.Command, error) {
			specs = append(specs, s)
			return supervise.Command{}, nil
		},
	})
	a.gossip, a.control = fakeGossip{w}, fakeControl{w}
	a.keys, err = security.DeriveAll(oldSecrets, security.Identity{RunID: "r", Node: "n1"})
	require.NoError(t, err)

	start := func(slot int) supervise.Command {
		command, err := a.command(slot)
		require.NoError(t, err)
		return command
	}
	command := start(0)
	theirs := command.Keep[specs[0].SecretsFD-supervise.KeptFD]
	a.rotate([][]byte{[]byte("short")})
	require.Zero(t, rotated)
	a.rotate(newSecrets)
	require.Equal(t, 1, rotated)
	require.Equal(t, []string{"keys: 2", fmt.Sprintf("secrets: %s %s", a.keys.Fingerprints()[0], a.keys.Fingerprints()[1])}, w.took())

	var heard [][][]byte
	require.NoError(t, theirs.SetReadDeadline(time.Now().Add(20*time.Second)))
	done := make(chan error)
	go func() { done <- spec.ReadSecrets(theirs, func(s [][]byte) { heard = append(heard, s) }) }()
	a.wires[0].close()
	require.NoError(t, <-done)
	require.Equal(t, [][][]byte{newSecrets}, heard)

	start(1)
	require.Equal(t, oldSecrets, specs[0].Secrets)
	require.Equal(t, newSecrets, specs[1].Secrets)
	a.wires.close()
	a.flights.close()
}
