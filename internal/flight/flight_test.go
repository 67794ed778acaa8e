package flight

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// opened is the worker's end of a ring, in this process: on a file descriptor of its own.
func opened(t *testing.T, r *Ring) *Recorder {
	t.Helper()
	m, err := mapped(r.File)
	require.NoError(t, err)
	return &Recorder{m}
}

func create(t *testing.T) *Ring {
	t.Helper()
	r, err := Create()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func TestRing(t *testing.T) {
	r := create(t)
	require.Empty(t, r.Records(10))
	rec := opened(t, r)
	want := Record{Kind: Begin, Generation: 3, Rank: 1, Peer: -1, Step: 1 << 40, Number: 7, Bucket: 5, Name: "all_reduce"}
	rec.Add(want)
	got := r.Records(10)
	require.Len(t, got, 1)
	require.WithinDuration(t, time.Now(), got[0].Time, time.Minute)
	got[0].Time = time.Time{}
	require.Equal(t, want, got[0])

	for i := range capacity + 10 { // round once
		rec.Add(Record{Kind: Phase, Step: int64(i), Name: "a name that is longer than the room"})
	}
	got = r.Records(1 << 30)
	require.Len(t, got, capacity)
	require.EqualValues(t, 10, got[0].Step)
	require.EqualValues(t, capacity+9, got[capacity-1].Step)
	require.Equal(t, "a name that is ", got[0].Name)
	require.Len(t, r.Records(3), 3)
	require.Zero(t, testing.AllocsPerRun(100, func() { rec.Add(want) }), "the hot path allocates nothing")
	(*Recorder)(nil).Add(want)
}

// A reader never sees half of a record, though writers are at work.
func TestReadingWhileWriting(t *testing.T) {
	r := create(t)
	var wg sync.WaitGroup
	for rank := range 2 {
		rec := opened(t, r)
		wg.Go(func() {
			for i := range 3 * capacity {
				rec.Add(Record{Kind: End, Rank: rank, Step: int64(i), Number: uint32(i), Bucket: i})
			}
		})
	}
	for range 200 {
		for _, rec := range r.Records(500) {
			require.Equal(t, End, rec.Kind)
			require.EqualValues(t, rec.Step, rec.Bucket)
			require.EqualValues(t, rec.Step, rec.Number)
		}
	}
	wg.Wait()
}

func TestOpenOfOtherFiles(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	require.NoError(t, err)
	defer f.Close()
	require.Nil(t, Open(f.Fd()))
	require.Nil(t, Open(987))
}

func TestDumps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "debug")
	at := time.UnixMilli(1700000000000).UTC()
	d := Dump{Node: "n-1/x", Slot: 2, PID: 33, Written: at, Reason: "r", Ended: "killed", Records: []Record{{Time: at, Kind: Waits, Generation: 1, Rank: 1, Peer: 2, Name: "barrier"}}}
	require.NoError(t, WriteDump(dir, d))
	require.NoError(t, WriteDump(dir, Dump{Node: "n", PID: 1, Written: at}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "flight-n-0-0-0.json"), []byte(`{"node":"n","records":[{"kind":"?"}]}`), 0o600))
	got, err := ReadDumps(dir)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, d, got[0])
	for i := range Keep + 5 {
		d.Written = at.Add(time.Duration(i+1) * time.Second)
		require.NoError(t, WriteDump(dir, d))
	}
	got, err = ReadDumps(dir)
	require.NoError(t, err)
	require.Len(t, got, Keep+1, "the oldest of the node are gone, another node's stay")
}

func FuzzParseDump(f *testing.F) {
	f.Add([]byte(`{"node":"n","records":[{"kind":"begin","op":3,"rank":1,"generation":2},{"kind":"waits","peer":4}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if d, err := parseDump(b); err == nil {
			if a, err := Explain([]Dump{d, d}, 0); err == nil {
				_ = a.Text()
			}
		}
	})
}

var clock0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// dump of a rank from records that are given without their time and generation.
func dump(rank int, ended string, records ...Record) Dump {
	d := Dump{Node: "n", Slot: rank, PID: 100 + rank, Ended: ended, Written: clock0}
	d.Records = append(d.Records, Record{Time: clock0, Kind: Joined, Generation: 1, Rank: rank, Peer: 3})
	for i, r := range records {
		r.Time, r.Generation, r.Rank = clock0.Add(time.Duration(i+1)*time.Millisecond), 1, rank
		d.Records = append(d.Records, r)
	}
	return d
}

func TestExplain(t *testing.T) {
	forward := Record{Kind: Phase, Step: 4, Bucket: 1, Name: "forward"}
	begin := Record{Kind: Begin, Step: 4, Number: 9, Bucket: 7, Name: "all_reduce"}
	end := Record{Kind: End, Step: 4, Number: 9}
	waits := func(peer int) Record { return Record{Kind: Waits, Peer: peer} }
	left := Record{Kind: Left, Name: "superseded"}
	for name, c := range map[string]struct {
		dumps   []Dump
		culprit int
		want    []string
	}{
		"behind in its own computing": {
			[]Dump{dump(0, "", begin, waits(2), left), dump(1, "", begin, left), dump(2, "SIGKILL", forward)},
			2,
			[]string{"rank 2 (n/2, pid 102) stopped first: last in forward 1 of step 5", "SIGKILL", "never began operation 9, all_reduce of bucket 7, which rank 0 and rank 1 began"},
		},
		"stopped inside the operation": {
			[]Dump{dump(0, "", begin, waits(1), left), dump(1, "SIGKILL", begin), dump(2, "", begin, waits(1), left)},
			1,
			[]string{"rank 1 stopped first: rank 0 and rank 2 waited for it in operation 9"},
		},
		"no dump of its own": {
			[]Dump{dump(0, "", begin, waits(1), left), dump(2, "", begin, waits(1), left)},
			1,
			[]string{"rank 1 stopped first", "no dump of its own", "1     no dump"},
		},
		"nobody said for whom it waits": {
			[]Dump{dump(0, "", begin, left), dump(1, "", begin, left), dump(2, "", begin)},
			2,
			[]string{"rank 2 (n/2, pid 102) stopped first", "it did not"},
		},
		"all well": {
			[]Dump{dump(0, "", begin, end), dump(1, "", begin, end), dump(2, "", begin, end)},
			-1,
			[]string{"no rank is behind", "done"},
		},
	} {
		a, err := Explain(c.dumps, 0)
		require.NoError(t, err, name)
		require.Equal(t, c.culprit, a.Culprit, "%s: %s", name, a.Text())
		for _, part := range c.want {
			require.Contains(t, a.Text(), part, name)
		}
	}
	_, err := Explain(nil, 0)
	require.ErrorIs(t, err, ErrNothing)
}

// The generation in which a process died counts, not those in which others joined since.
func TestExplainChoosesTheGeneration(t *testing.T) {
	at := func(generation uint64, kind Kind) Record {
		return Record{Kind: kind, Generation: generation, Peer: 1, Time: clock0}
	}
	survivor := dump(0, "", Record{Kind: Failed, Peer: 1})
	survivor.Records = append(survivor.Records, at(2, Failed), at(3, Joined))
	dead := dump(1, "SIGKILL")
	for _, c := range []struct {
		dumps       []Dump
		given, want uint64
	}{
		{[]Dump{survivor, dead}, 0, 1},
		{[]Dump{survivor}, 0, 2},
		{[]Dump{survivor, dead}, 3, 3},
	} {
		a, err := Explain(c.dumps, c.given)
		require.NoError(t, err)
		require.Equal(t, c.want, a.Generation)
	}
	_, err := Explain([]Dump{survivor}, 9)
	require.ErrorIs(t, err, ErrNothing)
}
