package trainer

import (
	"math"
	"time"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/optim"
)

// third is the range of timesteps that t lies in, of [0, count).
func third(t, count int) int { return min(Thirds*t/count, Thirds-1) }

// measure adds what only some steps tell to a commit word.
func (r *round) measure(w *commitWord) {
	k := r.chunks
	w.measured = true
	w.thirds = make([]float64, Thirds*len(w.losses))
	timesteps, first := len(k.proc.Schedule.Betas), k.firstDraw(r.state.Step, r.lo)
	for i, loss := range r.home.images() {
		t := diffusion.Timestep(k.cfg.Seed, uint64(first+int64(i)), timesteps)
		w.thirds[Thirds*(i/k.cfg.Chunk)+third(t, timesteps)] += float64(loss)
	}
	spent := r.reduce.spent
	w.times = RankTimes{Data: inMillis(spent.data), Compute: inMillis(spent.compute), Wait: inMillis(spent.wait)}
	if r.parts.Usage != nil {
		w.times.RSS = r.parts.Usage().RSSBytes
	}
}

// measured is what the ranks together know of the step that was just committed; nil
// where they did not measure it.
func (r *round) measured(v verdict, step int64, moved *optim.Movement) *Measured {
	if v.ranks == nil || moved == nil {
		return nil
	}
	k := r.chunks
	timesteps, first := len(k.proc.Schedule.Betas), k.firstDraw(step, 0)
	var images [Thirds]int
	for i := range int64(k.cfg.GlobalBatch) {
		images[third(diffusion.Timestep(k.cfg.Seed, uint64(first+i), timesteps), timesteps)]++
	}
	m := &Measured{Movement: *moved, Ranks: v.ranks}
	elements := float64(r.parts.Height * r.parts.Width * r.parts.Channel)
	for i, n := range images {
		m.Loss[i] = math.NaN()
		if n > 0 {
			m.Loss[i] = v.thirds[i] / (float64(n) * elements)
		}
	}
	return m
}

func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
