package agr_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
)

// Tracked averages are those of the parameters after each update, whoever computes them,
// and change no bit of the update; one that is dropped or not finite leaves them.
func TestTrack(t *testing.T) {
	segments, n := layout()
	c, err := optim.DefaultConfig("adan")
	require.NoError(t, err)
	profiles, err := optim.NewProfiles([]float64{0.05, 0.1})
	require.NoError(t, err)
	j := job{decay: 0.9, clip: 1}
	plain, err := agr.NewPass(c, true, segments, n, nil)
	require.NoError(t, err)
	want := newState(n)
	averages := [2][]float32{make([]float32, n), make([]float32, n)}
	type entry struct {
		label string
		pass  agr.Pass
	}
	unfused, err := agr.NewUnfusedPass(c, true, segments, n, nil)
	require.NoError(t, err)
	passes := []entry{{"unfused", unfused}}
	for _, kernel := range agr.KernelNames() {
		t.Setenv("AGRDIST_CPU", kernel)
		for _, r := range []optim.Runner{nil, goroutines(2)} {
			p, err := agr.NewPass(c, true, segments, n, r)
			require.NoError(t, err)
			passes = append(passes, entry{fmt.Sprint(kernel, r), p})
		}
	}
	for i := range passes {
		passes[i].pass, err = agr.Track(passes[i].pass, nil, profiles, n)
		require.NoError(t, err)
	}
	states := make([]state, len(passes))
	for i := range states {
		states[i] = newState(n)
	}
	for step := int64(1); step <= 4; step++ {
		apply(plain, j.update(want, step))
		for k := range averages {
			for _, s := range segments {
				optim.EMA(averages[k][s.Off:s.Off+s.Len], want.params[s.Off:s.Off+s.Len], profiles.Decay(k, step))
			}
		}
		for i, p := range passes {
			_, err := p.pass.Measure(j.update(states[i], step+9)) // dropped
			require.NoError(t, err)
			u := j.update(states[i], step)
			if step%2 == 0 {
				u.Movement = &optim.Movement{}
			}
			apply(p.pass, u)
			bad := j.update(states[i], step+1)
			bad.Grads.(interface{ Float32s() []float32 }).Float32s()[0] = float32(math.NaN())
			require.False(t, apply(p.pass, bad).Finite)

			slots := p.pass.Slots()
			require.Len(t, slots, len(plain.Slots())+2)
			require.Equal(t, want.params, states[i].params, p.label)
			for k := range averages {
				s := slots[len(slots)-2+k]
				require.Equal(t, profiles.Slot(k), s.Name)
				require.Equal(t, averages[k], s.Float32s(), "%s, update %d", p.label, step)
			}
		}
	}
	none, err := agr.Track(plain, nil, optim.Profiles{}, n)
	require.NoError(t, err)
	require.Same(t, plain, none)
}

func BenchmarkTrack(b *testing.B) {
	const n = 1 << 22
	c, err := optim.DefaultConfig("adan")
	require.NoError(b, err)
	profiles, err := optim.NewProfiles([]float64{0.05, 0.1})
	require.NoError(b, err)
	for _, tracked := range []bool{false, true} {
		b.Run(fmt.Sprint("tracked=", tracked), func(b *testing.B) {
			p, err := agr.NewPass(c, true, nil, n, nil)
			require.NoError(b, err)
			if tracked {
				p, err = agr.Track(p, nil, profiles, n)
				require.NoError(b, err)
			}
			s := newState(n)
			u := job{decay: 0.9, clip: 1}.update(s, 1)
			b.SetBytes(4 * n)
			for b.Loop() {
				u.T++
				apply(p, u)
			}
		})
	}
}
