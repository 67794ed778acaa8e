package coordinator

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
)

// The longest messages of a run of 10,000 workers fit.
func TestTenThousandMembersFit(t *testing.T) {
	m := cluster.Member{
		ID: "node-0123-4-00000001-abcdef01", Node: "node-0123.rack-17.example.org", Slot: 4, DataAddr: "[2001:db8::1234:5678]:29504",
		Host: "node-0123.rack-17.example.org", RunID: "digits", ConfigHash: strings.Repeat("f", 64), Build: strings.Repeat("b", 64), PID: 1 << 22,
		Topology: "europe-north1/europe-north1-a/rack-17/node-0123.rack-17.example.org",
	}
	s := cluster.Status{Generation: cluster.Generation{Number: 12}}
	for range 10000 {
		s.Generation.Members = append(s.Generation.Members, m)
		s.Workers = append(s.Workers, cluster.WorkerStatus{Member: m, Report: cluster.Report{Member: m.ID, Step: 1 << 40, Phase: cluster.PhaseCheckpoint, Loss: 1}})
	}
	s.Committed, s.Issued = s.Generation, []cluster.Generation{s.Generation}
	g := toGeneration(s.Generation)
	for _, m := range []proto.Message{&pb.Join{Member: toMember(m), Holds: g, Committed: g, Pledged: []*pb.Generation{g, g}}, &pb.Hello{Seen: []*pb.Generation{g, g}, Committed: g}, toStatus(s)} {
		require.Less(t, proto.Size(m), maxMessage, "%T", m)
	}
}

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

// What decisions follow from arrives as it was sent.
func TestDecisiveFieldsTravel(t *testing.T) {
	r := cluster.Report{Member: "m", Broken: "reset", Blame: "n", Reset: true, SavedOn: "n1", Stopping: true, Left: true, Pledged: []uint64{3}}
	require.Equal(t, r, fromReport(toReport(r), "m"))
	e := cluster.End{Outcome: cluster.OutcomeStopped, Reason: "why", ExitCode: cluster.ExitStopped, Step: 7, SavedOn: "n1"}
	require.Equal(t, e, fromEnd(toEnd(e)))
	committed, issued := cluster.Generation{Number: 4, Members: []cluster.Member{{ID: "a"}}}, cluster.Generation{Number: 6, Members: []cluster.Member{{ID: "b"}}, After: 4}
	s := fromStatus(toStatus(cluster.Status{Generation: issued, CommitGeneration: 4, Committed: committed, Issued: []cluster.Generation{issued}}))
	require.Equal(t, committed, s.Committed)
	require.Equal(t, []cluster.Generation{issued}, s.Issued)
	a := workMessage(cluster.Abort{Generation: 3, Reason: "why", AfterStep: true}).GetAbort()
	require.True(t, a.GetAfterStep())
}
