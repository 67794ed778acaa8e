package coordinator

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/agrdist/agrdist/cluster"
)

// Text that is not UTF-8 (a host's name, an error that names a file) does not keep a
// message from being delivered.
func TestEveryTextIsDeliverable(t *testing.T) {
	const bad = "caf\xe9"
	for _, m := range []proto.Message{
		toMember(cluster.Member{Host: bad}),
		toReport(cluster.Report{Broken: bad}),
		toGeneration(cluster.Generation{Number: 1, Reason: bad, Members: []cluster.Member{{Host: bad}}}),
		toEnd(cluster.End{Reason: bad}),
		toRefused(errors.New(bad)),
		toStatus(cluster.Status{Detail: bad, Agents: []cluster.AgentStatus{{Host: bad}}}),
	} {
		b, err := proto.Marshal(m)
		require.NoError(t, err, "%T", m)
		require.Contains(t, string(b), `caf\xe9`)
	}
}
