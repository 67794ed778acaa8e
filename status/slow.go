package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/cluster"
)

// UsageView is what the operating system says of a worker; see cluster.Usage.
type UsageView struct {
	RSS         uint64  `json:"rss_bytes,omitempty"`
	Arena       uint64  `json:"arena_bytes,omitempty"`
	Throttled   float64 `json:"cpu_throttled,omitempty"`
	Runnable    float64 `json:"cpu_wait,omitempty"` // thread seconds a second
	Steal       float64 `json:"cpu_steal,omitempty"`
	MajorFaults float64 `json:"major_faults_per_s,omitempty"`
	Preempted   float64 `json:"preempted_per_s,omitempty"`
	Retransmits float64 `json:"tcp_retransmits_per_s,omitempty"`
}

func usageView(u cluster.Usage) UsageView {
	return UsageView{
		RSS: u.RSSBytes, Arena: u.ArenaBytes, Throttled: u.Throttled, Runnable: u.Runnable, Steal: u.Steal,
		MajorFaults: u.MajorFaults, Preempted: u.Preempted, Retransmits: u.Retransmits,
	}
}

// From which on a number is a reason for being slow. A worker whose threads wait for a
// fifth of a second a second shares its CPUs; ten faults to a disk cost about 0.1 s.
const (
	muchThrottled   = 0.05
	muchRunnable    = 0.2
	muchSteal       = 0.05
	muchFaults      = 10
	muchRetransmits = 10
)

// because lists why a worker is slow, as far as the numbers tell; nothing more than
// "computing" where they do not.
func (w WorkerView) because() string {
	var out []string
	add := func(much bool, format string, args ...any) {
		if much {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	u := w.Usage
	add(w.Data > w.Compute/2, "waiting for data, %.0f of %.0f ms a step", w.Data, w.Compute)
	add(u.Throttled >= muchThrottled, "held back by its cgroup's CPU limit in %.0f %% of the periods", 100*u.Throttled)
	add(u.Runnable >= muchRunnable, "other programs have its CPUs: its threads waited %.1f s a second, %.0f preemptions", u.Runnable, u.Preempted)
	add(u.Steal >= muchSteal, "the hypervisor took %.0f %% of the host's CPU time", 100*u.Steal)
	add(u.MajorFaults >= muchFaults, "%.0f page faults a second went to a disk", u.MajorFaults)
	add(u.Retransmits >= muchRetransmits, "its host's network sent %.0f TCP segments a second again", u.Retransmits)
	if len(out) == 0 {
		return "computing"
	}
	return strings.Join(out, "; ")
}

// How long a worker must be slow before people are told, and the ratio at which it is
// not slow any more.
const (
	slowSteps = 20
	slowFor   = 10 * time.Second
	recovered = 1.25
)

// Stragglers notices workers that stay slow. The zero value is ready for use.
type Stragglers struct{ since map[string]*spell }

type spell struct {
	step int64
	at   time.Time
	told bool
}

// See takes a view of a run and returns lines for people: who has been slow for some
// time, and why, once; and who is not any more.
func (s *Stragglers) See(v View, now time.Time) (lines []string) {
	if s.since == nil {
		s.since = map[string]*spell{}
	}
	here := make([]string, 0, len(v.Workers))
	for _, w := range v.Workers {
		here = append(here, w.Name)
		p := s.since[w.Name]
		switch {
		case w.Rank < 0 || p != nil && w.Ratio < recovered:
			if p != nil && p.told && w.Rank >= 0 {
				lines = append(lines, fmt.Sprintf("rank %d (%s) is not slow any more", w.Rank, w.Name))
			}
			delete(s.since, w.Name)
		case p == nil && w.Ratio > Straggles:
			s.since[w.Name] = &spell{step: w.Step, at: now}
		case p != nil && !p.told && w.Ratio > Straggles && w.Step-p.step >= slowSteps && now.Sub(p.at) >= slowFor:
			p.told = true
			lines = append(lines, fmt.Sprintf("rank %d (%s) takes %.1f times as long for a chunk as the median: %s; all ranks wait for it", w.Rank, w.Name, w.Ratio, w.because()))
		}
	}
	for name := range s.since {
		if !slices.Contains(here, name) {
			delete(s.since, name)
		}
	}
	return lines
}
