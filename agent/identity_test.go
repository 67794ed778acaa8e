package agent

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func identify(t *testing.T, dir, name string) *Identity {
	t.Helper()
	id, err := Identify(t.Context(), dir, name, "host", false)
	require.NoError(t, err)
	return id
}

// The same command in the same directory is the same node, whatever its process;
// another agent beside it is another node.
func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	a, b := identify(t, dir, ""), identify(t, dir, "")
	require.Regexp(t, "^host-[0-9a-f]{6}$", a.Node)
	require.NotEqual(t, a.Node, b.Node)
	require.False(t, a.back)
	require.NoError(t, a.ports(7001, 0))
	require.NoError(t, a.ports(0, 7002))
	require.NoError(t, a.meet([]string{"10.0.0.2:1", "10.0.0.3:1", "10.0.0.2:1"}, 5))
	require.NoError(t, a.meet(nil, 0), "who is alone still knows whom to look for")
	require.NoError(t, a.Close())

	again := identify(t, dir, "")
	require.True(t, again.back)
	require.Equal(t, a.kept, again.kept)
	require.Equal(t, kept{Node: a.Node, GossipPort: 7001, RPCPort: 7002, Term: 5, Peers: []string{"10.0.0.2:1", "10.0.0.3:1"}}, again.kept)
	require.NoError(t, again.Close())
	require.NoError(t, b.Close())

	other := identify(t, t.TempDir(), "")
	require.NotEqual(t, a.Node, other.Node, "two directories on hosts of one name are two nodes")
	require.NoError(t, other.Close())
}

func TestIdentityAlone(t *testing.T) {
	id, err := Identify(t.Context(), t.TempDir(), "", "host", true)
	require.NoError(t, err)
	require.Equal(t, "host", id.Node)
	require.NoError(t, id.Close())
}

func TestIdentityNamed(t *testing.T) {
	dir := t.TempDir()
	a := identify(t, dir, "trainer-0")
	require.Equal(t, "trainer-0", a.Node)
	_, err := Identify(t.Context(), dir, "trainer-0", "host", false)
	require.ErrorContains(t, err, `node "trainer-0" is running already`)
	b := identify(t, dir, "trainer-1")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// A process that the agent started holds the identity for as long as it lives.
func TestIdentityWaitsForTheWorkers(t *testing.T) {
	dir := t.TempDir()
	a := identify(t, dir, "")
	worker := exec.Command("sleep", "60")
	worker.ExtraFiles = []*os.File{a.workers}
	require.NoError(t, worker.Start())
	require.NoError(t, a.Close()) // as when the agent is killed
	free, err := lock(t.Context(), a.path+".workers.lock", 0)
	require.NoError(t, err)
	require.Nil(t, free, "its worker lives")
	require.NoError(t, worker.Process.Kill())
	_ = worker.Wait() // killed
	again := identify(t, dir, "")
	require.Equal(t, a.Node, again.Node)
	require.NoError(t, again.Close())
}

// Any damage is an error that says how to continue; never another node.
func TestIdentityDamaged(t *testing.T) {
	dir := t.TempDir()
	a := identify(t, dir, "")
	require.NoError(t, a.ports(7001, 7002))
	require.NoError(t, a.meet([]string{"10.0.0.2:1"}, 5))
	require.NoError(t, a.Close())
	path := filepath.Join(dir, "host.json")
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	var damaged [][]byte
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		damaged = append(damaged, flipped, good[:i])
	}
	for _, text := range []string{
		"{}", "null", `{"node":""}`, `{"node":"n"} {}`, `{"node":"n","other":1}`,
		`{"node":"n","gossip_port":70000}`, `{"node":"n","rpc_port":-1}`, `{"node":"n","peers":["x"]}`,
	} {
		damaged = append(damaged, []byte(text))
	}
	for _, text := range damaged {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		for _, name := range []string{"", "host"} {
			_, err := Identify(t.Context(), dir, name, "host", false)
			require.ErrorContains(t, err, path, "%q", text)
			require.ErrorContains(t, err, "--set cluster.node=NAME", "%q", text)
			require.NotContains(t, err.Error(), "\n")
		}
	}
	id, err := Identify(t.Context(), dir, "", "host", true)
	require.NoError(t, err, "a node that is alone needs nothing of it")
	require.Equal(t, kept{Node: "host"}, id.kept)
	require.NoError(t, id.Close())

	// As it was before there was a checksum.
	require.NoError(t, os.WriteFile(path, []byte(`{"node": "host-1", "gossip_port": 7}`), 0o600))
	old := identify(t, dir, "")
	require.Equal(t, kept{Node: "host-1", GossipPort: 7}, old.kept)
	require.NoError(t, old.Close())
}

// What a process left that was killed while it wrote is cleared by the next one.
func TestIdentityClearsLeftovers(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, ".host.json.17-1.tmp")
	require.NoError(t, os.WriteFile(left, []byte("{"), 0o600))
	require.NoError(t, identify(t, dir, "").Close())
	require.NoFileExists(t, left)
}
