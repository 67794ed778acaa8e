package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two sides of a partition, each with its own true but partial knowledge of who
// is dead, never both have a quorum. Every case of up to five members.
func TestQuorumIsExclusive(t *testing.T) {
	for n := 1; n <= 5; n++ {
		base := Generation{Number: 1}
		for i := range n {
			base.Members = append(base.Members, Member{ID: MemberID(fmt.Sprint(i))})
		}
		// A member is alive on side 1 or 2, alive and unheard, or dead and
		// known as such to nobody, side 1, side 2 or both.
		const states = 7
		total := 1
		for range n {
			total *= states
		}
		for code := range total {
			here := [2]map[MemberID]bool{{}, {}}
			dead := [2]map[MemberID]bool{{}, {}}
			for i, c := 0, code; i < n; i, c = i+1, c/states {
				id := base.Members[i].ID
				switch s := c % states; s {
				case 0, 1:
					here[s][id] = true
				case 2, 3: // unheard; dead and unknown
				case 4, 5:
					dead[s-4][id] = true
				case 6:
					dead[0][id], dead[1][id] = true, true
				}
			}
			side := func(s int) bool {
				ok, _ := quorum(base, dead[s], func(id MemberID) bool { return here[s][id] }, nobody)
				return ok && len(here[s]) > 0
			}
			require.False(t, side(0) && side(1), "n %d code %d: here %v dead %v", n, code, here, dead)
		}
	}
}

func TestQuorumNeverBlocksTheLiving(t *testing.T) {
	base := Generation{Members: []Member{{ID: "a"}, {ID: "b"}, {ID: "c"}}}
	ok, unheard := quorum(base, map[MemberID]bool{"a": true, "b": true}, func(id MemberID) bool { return id == "c" }, nobody)
	require.True(t, ok, "all others are certified dead")
	require.Empty(t, unheard)
	ok, unheard = quorum(base, nil, func(id MemberID) bool { return id == "c" }, nobody)
	require.False(t, ok)
	require.Equal(t, []Member{{ID: "a"}, {ID: "b"}}, unheard)
	ok, _ = quorum(Generation{}, nil, func(MemberID) bool { return false }, nobody)
	require.True(t, ok, "nothing was ever committed")
}

func TestStepTimesScaleWithTheWorld(t *testing.T) {
	var s stepTimes
	_, known := s.p99(4)
	require.False(t, known)
	now := epoch
	s.advance(now, 0, 4)
	for i := range int64(200) {
		d := time.Second
		if i == 150 {
			d = 9 * time.Second
		}
		now = now.Add(d)
		s.advance(now, i+1, 4)
	}
	p, known := s.p99(4)
	require.True(t, known)
	require.Equal(t, time.Second, p, "one of 128 lies above the 99th percentile")
	p, _ = s.p99(2)
	require.Equal(t, 2*time.Second, p, "half the workers, twice the time")

	now = now.Add(10 * time.Second)
	s.advance(now, 210, 4) // ten steps between two reports
	s.interrupted = true
	now = now.Add(time.Hour)
	s.advance(now, 211, 4) // a checkpoint lay in between
	p, _ = s.p99(4)
	require.Equal(t, time.Second, p)
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	c := DefaultConfig()
	c.MinWorkers, c.MaxWorkers, c.HangFactor, c.LostAfter, c.JoinDebounce = 0, -1, 0.5, 0, -time.Second
	err := c.Validate()
	require.ErrorIs(t, err, ErrConfig)
	for _, want := range []string{"min_workers is 0", "max_workers is -1", "hang_factor is 0.5", "lost_after is 0s", "join_debounce is -1s"} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(c, epoch)
	require.ErrorIs(t, err, ErrConfig)
}

func TestJournalOfAnotherRun(t *testing.T) {
	c := DefaultConfig()
	c.RunID, c.ConfigHash = "new", "steps: 200"
	for name, old := range map[string]Member{
		"the same run with an edited configuration": {RunID: "new", ConfigHash: "steps: 100"},
		"another run on the same directory":         {RunID: "old", ConfigHash: "steps: 200"},
	} {
		member := old
		member.ID, member.Node, member.DataAddr = "a", "n", "x"
		j := Journal{RunID: old.RunID, ConfigHash: old.ConfigHash, Last: Generation{Number: 7, Members: []Member{member}}}
		m, err := Restore(c, j, epoch)
		require.NoError(t, err, name)
		require.Equal(t, StateForming, m.Status(epoch).State, name)
		require.IsType(t, Refuse{}, m.Step(epoch, WorkerJoined{Member: member})[0], "%s: its stragglers stay out", name)
		member.RunID, member.ConfigHash = c.RunID, c.ConfigHash
		form, ok := m.Step(epoch, WorkerJoined{Member: member})[1].(Form)
		require.True(t, ok, name)
		require.Equal(t, uint64(8), form.Generation.Number, "%s: numbers never repeat", name)
	}
}

// A coordinator that was stopped for an hour accuses nobody; silence counts from
// when it is back.
func TestCoordinatorThatSlept(t *testing.T) {
	c := DefaultConfig()
	c.MinWorkers, c.MaxWorkers = 2, 2
	m, err := New(c, epoch)
	require.NoError(t, err)
	for i, id := range []MemberID{"a", "b"} {
		m.Step(epoch, WorkerJoined{Member: Member{ID: id, Node: "n", Slot: i, DataAddr: "x"}})
	}
	now := epoch.Add(time.Hour)
	require.Empty(t, m.Step(now, Tick{}))
	for range 29 {
		now = now.Add(100 * time.Millisecond)
		require.Empty(t, m.Step(now, Reported{Report{Member: "a", Generation: 1}}))
	}
	now = now.Add(100 * time.Millisecond)
	actions := m.Step(now, Tick{})
	require.Equal(t, Drop{"b"}, actions[0])
	require.Equal(t, "lost n/1: silent for 3s", actions[1].(Form).Generation.Reason)
}

func TestBudgetNeverExceedsItsWindow(t *testing.T) {
	c := DefaultConfig()
	c.MaxWorkers, c.MaxRestarts, c.RestartWindow, c.MaxEarlyDeaths = 2, 3, time.Minute, 100
	m, err := New(c, epoch)
	require.NoError(t, err)
	join := func(id string, slot int) Event {
		return WorkerJoined{
			Member: Member{ID: MemberID(id), Node: "n", Slot: slot, DataAddr: "a"},
			Report: Report{Generation: 1, Step: 0, CommitGeneration: 1, HasState: true},
		}
	}
	m.Step(epoch, join("stay", 1))
	now := epoch
	crash := func(i int) (v Verdict) {
		m.Step(now, join(fmt.Sprint(i), 0), Reported{Report{Member: "stay"}})
		for _, a := range m.Step(now, WorkerExited{Exit: Exit{Member: MemberID(fmt.Sprint(i)), Node: "n", Code: 1}}) {
			if j, ok := a.(Judge); ok {
				v = j.Verdict
			}
		}
		return v
	}
	for i := range 12 { // three a minute for ever
		require.True(t, crash(i).Restart, i)
		now = now.Add(31 * time.Second) // the back-off is at most 30 s
	}
	for i := range 2 {
		require.Equal(t, i < 1, crash(100+i).Restart, "the window has two of before, and room for one")
	}
	require.Equal(t, StateStopping, m.Status(now).State, "the survivor saves")
}

func nobody(place) bool { return false }

// If all are dead, their places count, and each is on one side only.
func TestPlacesOfTheDead(t *testing.T) {
	base := Generation{Members: []Member{{ID: "a", Node: "n0"}, {ID: "b", Node: "n1"}, {ID: "c", Node: "n2"}, {ID: "d", Node: "n3"}}}
	dead := map[MemberID]bool{"a": true, "b": true, "c": true, "d": true}
	none := func(MemberID) bool { return false }
	for nodes, want := range map[string]bool{"n0 n1 n2": true, "n0 n1": true, "n2 n3": false, "n0": false, "n4 n5": false, "n1 n2 n3": true} {
		ok, _ := quorum(base, dead, none, func(at place) bool { return strings.Contains(nodes, at.node) })
		require.Equal(t, want, ok, nodes)
	}
	// One that may live is what counts, whoever has the places of the others.
	ok, unheard := quorum(base, map[MemberID]bool{"a": true, "b": true, "c": true}, none, func(place) bool { return true })
	require.False(t, ok)
	require.Equal(t, []Member{base.Members[3]}, unheard)
}
