package trainer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/nn"
)

func layout(lengths ...int) (list []nn.Param, flat int) {
	for _, n := range lengths {
		list = append(list, nn.Param{Off: flat, Len: n})
		flat += (n + 15) / 16 * 16
	}
	return list, flat
}

func TestBucketsCoverTheGradientFromItsEnd(t *testing.T) {
	params, flat := layout(100, 3, 16, 1, 64, 200)
	for _, size := range []int{1, 64, 256, 1000, 1 << 20} {
		got, of := cutBuckets(params, flat, size)
		hi := flat
		for i, b := range got {
			require.Equal(t, hi, b.hi, "buckets join")
			require.Less(t, b.lo, b.hi)
			if i < len(got)-1 {
				require.GreaterOrEqual(t, 4*(b.hi-b.lo), size)
			}
			hi = b.lo
		}
		require.Zero(t, hi, "the last bucket reaches the start")
		for i, p := range params {
			b := got[of[i]]
			require.True(t, b.lo <= p.Off && p.Off+p.Len <= b.hi, "parameter %d lies in its bucket", i)
		}
	}
}

// Buckets leave in their order whatever the order in which parameters finish.
func TestCountdownReleasesInOrder(t *testing.T) {
	c := newCountdown([]int{2, 2, 1, 0, 0}, 3)
	for range 2 { // a reset makes it as new
		var released []int
		for _, i := range []int{2, 0, 4, 1, 3} {
			from, to := c.done(i)
			for b := from; b < to; b++ {
				released = append(released, b)
			}
			if i != 3 {
				require.Empty(t, released, "bucket 0 is not complete")
			}
		}
		require.Equal(t, []int{0, 1, 2}, released)
		c.reset()
	}
}

func TestCommitWords(t *testing.T) {
	a := commitWord{generation: 7, step: 9, firstChunk: 0, losses: []float64{1, 2}}
	b := commitWord{generation: 7, step: 9, stop: true, firstChunk: 2, losses: []float64{math.Inf(1)}}
	idle := commitWord{generation: 7, step: 9, firstChunk: 3}
	words := func(list ...commitWord) (out [][]byte) {
		for _, w := range list {
			out = append(out, w.append(nil))
		}
		return out
	}
	v, err := decide(words(a, b, idle), 7, 9, make([]float64, 3))
	require.NoError(t, err)
	require.True(t, v.stop)
	require.Equal(t, []float64{1, 2, math.Inf(1)}, v.losses)

	v, err = decide(words(a), 7, 9, make([]float64, 2))
	require.NoError(t, err)
	require.False(t, v.stop)

	am, bm := a, b
	am.measured, am.thirds, am.times = true, []float64{1, 0, 0, 0, 1, 1}, RankTimes{Data: 1, Compute: 2, Wait: 3, RSS: 4}
	bm.measured, bm.thirds = true, []float64{5, 6, 7}
	v, err = decide(words(am, bm), 7, 9, make([]float64, 3))
	require.NoError(t, err)
	require.Equal(t, []float64{1, 2, math.Inf(1)}, v.losses)
	require.Equal(t, [Thirds]float64{6, 7, 8}, v.thirds)
	require.Equal(t, []RankTimes{{Data: 1, Compute: 2, Wait: 3, RSS: 4}, {}}, v.ranks)
	v, err = decide(words(am, b), 7, 9, make([]float64, 3))
	require.NoError(t, err)
	require.Nil(t, v.ranks, "half a measurement is none")

	other := b
	other.step = 8
	for name, c := range map[string]struct {
		words  [][]byte
		chunks int
		want   string
	}{
		"another step":      {words(a, other), 3, "rank 1 is at generation 7, step 8"},
		"a chunk missing":   {words(a), 3, "2 of 3 chunks"},
		"a chunk twice":     {words(a, a), 4, "rank 1 computed chunks 0 to 2, expected from 2"},
		"more than a batch": {words(a), 1, "rank 0"},
		"cut":               {[][]byte{words(a)[0][:20]}, 2, "20 bytes"},
		"odd":               {[][]byte{append(words(a)[0], 1)}, 2, "bytes"},
		"measured, cut":     {[][]byte{words(am)[0][:wordHeader+20]}, 2, "41 bytes"},
	} {
		_, err := decide(c.words, 7, 9, make([]float64, c.chunks))
		require.ErrorContains(t, err, c.want, name)
	}
}

func FuzzDecide(f *testing.F) {
	w := commitWord{generation: 1, step: 2, losses: []float64{3}}
	f.Add(w.append(nil), w.append(nil))
	m := w
	m.measured, m.thirds = true, []float64{1, 2, 3}
	f.Add(m.append(nil), w.append(nil))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		losses := make([]float64, 2)
		v, err := decide([][]byte{a, b}, 1, 2, losses)
		if err == nil {
			require.Len(t, v.losses, 2)
			chunks, size := 0, 0
			for _, word := range [][]byte{a, b} {
				n, ok := chunksOf(word)
				require.True(t, ok)
				chunks, size = chunks+n, size+wordHeader+8*n
				if word[16]&flagMeasured != 0 {
					size += rankBytes + 8*Thirds*n
				}
			}
			require.Equal(t, 2, chunks, "every chunk comes once")
			require.Equal(t, size, len(a)+len(b))
		}
		if s, err := parseStanding(a); err == nil {
			require.Equal(t, a[1:], s.bytes()[1:])
		}
	})
}

func TestSourceIsTheLowestRankThatIsFurthest(t *testing.T) {
	for _, c := range []struct {
		all  []standing
		want int
	}{
		{[]standing{{}, {}}, -1},
		{[]standing{{step: 9}, {has: true, step: 3}}, 1},
		{[]standing{{has: true, step: 3}, {has: true, step: 4}, {has: true, step: 4}}, 1},
		{[]standing{{has: true}, {has: true}}, 0},
	} {
		require.Equal(t, c.want, source(c.all))
	}
}
