package coordinator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials"

	"github.com/agrdist/agrdist/cluster"
	pb "github.com/agrdist/agrdist/cluster/clusterpb"
	"github.com/agrdist/agrdist/cluster/security"
	"github.com/agrdist/agrdist/internal/sealed"
)

func TestPlaintextIsForLoopbackOnly(t *testing.T) {
	cfg := ServerConfig{Cluster: cluster.DefaultConfig(), Addr: "0.0.0.0:0"}
	_, err := Listen(cfg)
	require.ErrorIs(t, err, ErrInsecure)
	require.ErrorContains(t, err, "bind 127.0.0.1")

	cfg.Credentials = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})
	s, err := Listen(cfg)
	require.NoError(t, err)
	require.NoError(t, s.lis.Close())
	cfg.Credentials, cfg.Addr = nil, "127.0.0.1:0"
	s, err = Listen(cfg)
	require.NoError(t, err)
	require.NotZero(t, s.Addr().(*net.TCPAddr).Port)

	cfg.Addr = s.Addr().String()
	_, err = Listen(cfg)
	require.ErrorContains(t, err, cfg.Addr)
	require.ErrorContains(t, err, "port 0")
	require.NoError(t, s.lis.Close())
}

// keys returns what a node holds of a secret that all share.
func keys(t *testing.T, node string) *security.Keys {
	t.Helper()
	k, err := security.Derive([]byte("a secret of thirty-two characters"), security.Identity{RunID: "r", Node: node})
	require.NoError(t, err)
	return k
}

// Real sockets, mutual TLS, and an address that is found only when asked for. Who holds
// the certificate of one node cannot speak for another.
func TestMutualTLSOverTCP(t *testing.T) {
	s, err := Listen(ServerConfig{Cluster: cluster.DefaultConfig(), Addr: "127.0.0.1:0", Credentials: keys(t, "n1").ServerCredentials()})
	require.NoError(t, err)
	ctx, stop := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()

	lookups := 0
	c, err := Dial(ClientConfig{Credentials: keys(t, "n2").ClientCredentials(), Resolve: func(context.Context) (string, error) {
		if lookups++; lookups == 1 {
			return "", errors.New("gossip knows of no coordinator yet")
		}
		return s.Addr().String(), nil
	}})
	require.NoError(t, err)
	session, err := c.Join(t.Context(), cluster.Member{ID: "x", Node: "n2", DataAddr: "a"})
	require.NoError(t, err)
	require.Equal(t, uint64(1), (<-session.Generations()).Number)

	const denied = `the certificate is of node "n2", which cannot speak for node "n3"`
	_, err = c.Join(t.Context(), cluster.Member{ID: "y", Node: "n3", DataAddr: "a"})
	require.ErrorContains(t, err, denied)
	_, err = c.Supervise(t.Context(), Node{Name: "n3"})
	require.ErrorContains(t, err, denied)
	_, err = c.ReportExit(t.Context(), cluster.Exit{Member: "z", Node: "n3"})
	require.ErrorContains(t, err, denied)
	_, err = c.Status(t.Context())
	require.NoError(t, err, "any member may ask")

	plain, err := Dial(ClientConfig{Addr: s.Addr().String()})
	require.NoError(t, err)
	_, err = plain.Status(t.Context())
	require.Error(t, err, "plain text to a TLS server")

	require.NoError(t, plain.Close())
	require.NoError(t, c.Close())
	stop(errHalt)
	require.ErrorIs(t, <-served, errHalt)
	require.ErrorIs(t, s.Serve(t.Context()), errClosed, "a server is served once")
}

// fill sets every field of a struct to a value of its own, so that a field which
// the conversion forgets is found.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field, n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.String:
		v.SetString(string(rune('a' + *n%26)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		t.Fatalf("no value for a %s", v.Kind())
	}
}

func TestStatusSurvivesTheWire(t *testing.T) {
	var s cluster.Status
	n := 0
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	for i := range s.Workers {
		s.Workers[i].Report.Member = s.Workers[i].Member.ID
	}
	for i := range s.Agents {
		s.Agents[i].Secrets = "" // from the gossip
	}
	require.Empty(t, cmp.Diff(s, fromStatus(toStatus(s))))
	require.Equal(t, cluster.Generation{}, fromGeneration(toGeneration(cluster.Generation{})))
	for o := range outcomes {
		require.Equal(t, o, fromEnd(toEnd(cluster.End{Outcome: o})).Outcome)
	}
	for _, r := range refusals {
		require.ErrorIs(t, fromRefused(toRefused(r.err)), r.err)
	}
	unknown := fromRefused(toRefused(io.EOF))
	require.ErrorContains(t, unknown, "EOF")
	require.NoError(t, errors.Unwrap(unknown))
}

func TestJournalSurvivesTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.json")
	none, err := ReadJournal(path)
	require.NoError(t, err)
	require.Equal(t, cluster.NewJournal(), none)

	var j cluster.Journal
	n := 0
	fill(t, reflect.ValueOf(&j).Elem(), &n)
	for range 2 { // the second replaces the first
		j.Step++
		require.NoError(t, writeJournal(path, j))
		got, err := ReadJournal(path)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(j, got))
	}
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")
	require.Error(t, writeJournal(filepath.Join(path, "no", "folder"), j))

	require.NoError(t, os.WriteFile(path, old(t, j), 0o600))
	got, err := ReadJournal(path)
	require.NoError(t, err, "what was written before there was a checksum")
	require.Empty(t, cmp.Diff(j, got))
}

// Any damage is an error that says what is lost and how to continue.
func TestJournalDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.json")
	var j cluster.Journal
	n := 0
	fill(t, reflect.ValueOf(&j).Elem(), &n)
	good, err := sealed.Marshal(journalFile{Version: journalVersion, Journal: j})
	require.NoError(t, err)
	refused := func(bad []byte, what string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		_, err := ReadJournal(path)
		var damaged *DamagedJournalError
		require.ErrorAs(t, err, &damaged, what)
		for _, part := range []string{path, "no checkpoint is affected", "--join HOST:PORT", "move it away and give the same commands again"} {
			require.ErrorContains(t, err, part)
		}
		require.NotContains(t, err.Error(), "\n")
	}
	for k := range 100 { // package sealed tries every bit
		i := k * len(good) / 100
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (k % 8)
		refused(bad, fmt.Sprintf("byte %d flipped", i))
		refused(good[:i], fmt.Sprintf("cut to %d", i))
	}
	for _, bad := range []string{"", "{", `{"Version":1,"Other":{}}`, `{"Version":1,"Journal":{}} {}`, `{"Version":2,"Journal":{}}`, `{"Version":0,"Journal":{}}`} {
		refused([]byte(bad), bad)
	}
	refused(bytes.Replace(old(t, j), []byte(`"Version":1`), []byte(`"Version":3`), 1), "of a newer build")

	_, err = Listen(ServerConfig{Cluster: cluster.DefaultConfig(), Addr: "127.0.0.1:0", JournalPath: path})
	require.ErrorContains(t, err, path)
	// What this process saw itself is newer than what the file said.
	seen := cluster.NewJournal()
	seen.Last = cluster.Generation{Number: 7, Members: []cluster.Member{{ID: "a", Node: "n"}}}
	s, err := Listen(ServerConfig{Cluster: cluster.DefaultConfig(), Addr: "127.0.0.1:0", JournalPath: path, Seen: seen})
	require.NoError(t, err)
	require.Equal(t, uint64(7), s.machine.Journal().Last.Number)
	require.NoError(t, s.lis.Close())
	require.NoError(t, KeepJournal(path, seen))
	got, err := ReadJournal(path)
	require.NoError(t, err)
	require.Equal(t, seen.Last, got.Last)
}

func old(t *testing.T, j cluster.Journal) []byte {
	t.Helper()
	raw, err := json.Marshal(journalFile{Version: 1, Journal: j})
	require.NoError(t, err)
	return raw
}

// Whatever a damaged journal says, it is an error or a machine that works.
func FuzzJournal(f *testing.F) {
	var j cluster.Journal
	f.Add([]byte(`{"Version":1,"Journal":{"Step":-1}}`))
	j.Last = cluster.Generation{Number: 3, Members: []cluster.Member{{ID: "a", Node: "n"}, {ID: "a", Node: "n"}}}
	j.Base, j.Issued = j.Last, []cluster.Generation{j.Last}
	raw, err := json.Marshal(journalFile{Version: journalVersion, Journal: j})
	require.NoError(f, err)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		j, err := parseJournal(raw)
		if err != nil {
			return
		}
		now := time.Unix(0, 0)
		m, err := cluster.Restore(cluster.DefaultConfig(), j, now)
		if err != nil {
			return
		}
		for i := range 10 {
			now = now.Add(3 * time.Second)
			member := cluster.Member{ID: cluster.MemberID(rune('a' + i)), Node: "n", DataAddr: "x", RunID: j.RunID, ConfigHash: j.ConfigHash, Build: j.Build}
			m.Step(now, cluster.WorkerJoined{Member: member}, cluster.StreamBroken{ID: member.ID}, cluster.Tick{})
			m.Status(now)
		}
		_, err = json.Marshal(m.Journal())
		require.NoError(t, err)
	})
}

func TestOutboxKeepsTheNewestGeneration(t *testing.T) {
	o := newOutbox(staleWork)
	generation := func(n uint64) *pb.WorkResponse {
		return &pb.WorkResponse{Message: &pb.WorkResponse_Generation{Generation: &pb.Generation{Number: n}}}
	}
	admitted := &pb.WorkResponse{Message: &pb.WorkResponse_Admitted{Admitted: &pb.Admitted{}}}
	abort := workMessage(cluster.Abort{Generation: 1})
	for _, m := range []*pb.WorkResponse{admitted, generation(1), abort, generation(2), generation(3), workMessage(cluster.Abort{Generation: 3})} {
		o.put(m)
	}
	queue, closed := o.take()
	require.False(t, closed)
	require.Len(t, queue, 3)
	require.NotNil(t, queue[0].GetAdmitted())
	require.Equal(t, uint64(3), queue[1].GetGeneration().GetNumber())
	require.Equal(t, uint64(3), queue[2].GetAbort().GetGeneration())
	o.put(generation(4))
	o.close()
	o.put(generation(5))
	queue, closed = o.take()
	require.True(t, closed)
	require.Len(t, queue, 1, "what came before the end is sent, what came after is not")
}

func TestDelays(t *testing.T) {
	spread := map[time.Duration]bool{}
	for _, key := range []string{"a", "b", "c", "d"} {
		d := delays{least: 100 * time.Millisecond, most: 2 * time.Second, key: key}
		for i := range 40 {
			full := min(100*time.Millisecond<<min(i, 10), 2*time.Second)
			got := d.next()
			require.GreaterOrEqual(t, got, full/2)
			require.Less(t, got, full)
			spread[got] = true
		}
		d.reset()
		require.Less(t, d.next(), 100*time.Millisecond)
	}
	require.Greater(t, len(spread), 100, "members do not come back in step")
}

// A worker names the generation in which it committed itself, not the one that it is in
// nor the one whose step it copied, and those since in which its word may have counted.
func TestSessionKnowsWhereItCommitted(t *testing.T) {
	generation := func(number uint64) *pb.WorkResponse {
		return &pb.WorkResponse{Message: &pb.WorkResponse_Generation{Generation: &pb.Generation{Number: number}}}
	}
	s := &Session{changed: make(chan struct{}, 1), generations: make(chan cluster.Generation, 1)}
	require.NoError(t, s.receive(generation(3)))
	s.Report(cluster.Report{Generation: 3, CommitGeneration: 2, Step: 5})
	require.Zero(t, s.proven.Number, "copied")
	s.Report(cluster.Report{Generation: 3, CommitGeneration: 3, Step: 6})
	require.Equal(t, uint64(3), s.proven.Number)
	for number := uint64(4); number <= 6; number++ {
		require.NoError(t, s.receive(generation(number)))
	}
	s.Report(cluster.Report{Generation: 5, CommitGeneration: 3, Step: 6, Pledged: []uint64{4, 5}})
	require.Equal(t, uint64(3), s.proven.Number)
	require.Equal(t, []cluster.Generation{{Number: 4}, {Number: 5}}, s.pledged())
	s.Report(cluster.Report{Generation: 5, CommitGeneration: 5, Step: 7})
	require.Equal(t, uint64(5), s.proven.Number, "though 6 has arrived")
	require.Empty(t, s.pledged())
	s.Report(cluster.Report{Generation: 5, CommitGeneration: 5, Step: 7})
	require.Equal(t, uint64(5), s.proven.Number)
}
