package compare

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/config"
)

// Resolver makes a checked configuration of a file and settings.
type Resolver func(file string, set []string) (*config.Config, error)

// Plan is an experiment with every configuration checked, before anything runs.
type Plan struct {
	Spec
	resolve Resolver
	Steps   int64
}

// NewPlan completes and checks an experiment. Its settings' faults are *config.Error
// with the method's name.
func NewPlan(s Spec, resolve Resolver) (*Plan, error) {
	err := s.complete()
	if err == nil {
		err = s.validate()
	}
	if err != nil {
		return nil, &config.Error{Source: "experiment", Err: err}
	}
	p := &Plan{Spec: s, resolve: resolve}
	for _, m := range s.Methods {
		for _, tuned := range append(p.combinations(m), nil) {
			c, err := p.config(m, tuned, s.Seeds[0], 0, "")
			if err != nil {
				return nil, fmt.Errorf("method %q: %w", m.Name, err)
			}
			p.Steps = c.Train.Steps
		}
	}
	if len(p.At) == 0 {
		p.At = []int64{p.Steps}
	}
	if last := slices.Max(p.At); last > p.Steps {
		return nil, &config.Error{Source: "experiment", Err: fmt.Errorf("at has step %d; a run has %d steps", last, p.Steps)}
	}
	return p, nil
}

// combinations is the product of the values of a method's tuned keys; none where
// nothing is tuned.
func (p *Plan) combinations(m Method) (out [][]string) {
	keys := p.Tune.Keys
	if len(m.Tune) > 0 {
		keys = m.Tune
	}
	if len(keys) == 0 {
		return nil
	}
	for _, c := range expand(nil, keys) {
		out = append(out, c.Set)
	}
	return out
}

// tuned says whether any method has a sweep.
func (p *Plan) tuned() bool {
	return slices.ContainsFunc(p.Methods, func(m Method) bool { return len(p.combinations(m)) > 0 })
}

// config is the configuration of one run; steps 0 means the experiment's.
func (p *Plan) config(m Method, tuned []string, seed uint64, steps int64, dir string) (*config.Config, error) {
	if steps == 0 {
		steps = p.Spec.Steps
	}
	set := append(slices.Clone([]string(p.Set)), m.Set...)
	set = append(set, tuned...)
	set = append(set, fmt.Sprintf("seed=%d", seed))
	if steps > 0 {
		set = append(set, fmt.Sprintf("train.steps=%d", steps))
	}
	if dir != "" {
		set = append(set, fmt.Sprintf("out=%q", dir))
	}
	if len(p.At) > 0 {
		set = append(set, "checkpoint.keep_at=["+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(p.At)), ","), "[]")+"]")
	}
	return p.resolve(p.Base, set)
}

// runDir is where a run of the comparison is.
func (p *Plan) runDir(m Method, seed uint64) string {
	return filepath.Join(p.Out, "runs", slug(m.Name), fmt.Sprintf("seed-%d", seed))
}

// tuneDir is where a run of the sweep is.
func (p *Plan) tuneDir(m Method, tuned []string, seed uint64) string {
	return filepath.Join(p.Out, "tune", slug(m.Name), slug(strings.Join(tuned, "-")), fmt.Sprintf("seed-%d", seed))
}

// Runs is how many runs the plan has: in the sweep and in the comparison.
func (p *Plan) Runs() (tuning, comparison int) {
	for _, m := range p.Methods {
		tuning += len(p.combinations(m)) * len(p.Tune.Seeds)
	}
	return tuning, len(p.Methods) * len(p.Seeds)
}
