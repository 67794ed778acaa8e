package compare

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/eval/suite"
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
		var c *config.Config
		for _, tuned := range append(p.combinations(m), nil) {
			if c, err = p.config(m, tuned, s.Seeds[0], 0, ""); err != nil {
				return nil, fmt.Errorf("method %q: %w", m.Name, err)
			}
		}
		if err := p.judgeable(c); err != nil {
			return nil, &config.Error{Source: fmt.Sprintf("method %q", m.Name), Err: err}
		}
		p.Steps = c.Train.Steps
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

// judgeable says why runs of a configuration could be trained and not evaluated.
func (p *Plan) judgeable(c *config.Config) error {
	if p.Eval.Steps > c.Diffusion.Timesteps {
		return fmt.Errorf("eval.steps (--sampler-steps) is %d; it must be at most diffusion.timesteps (%d)", p.Eval.Steps, c.Diffusion.Timesteps)
	}
	if p.tuned() && p.Tune.By == suite.HeldOutLoss && c.Data.Holdout == 0 && c.Data.Name != "cifar10" { // which has a test set
		return fmt.Errorf("the sweep goes by %s, which needs images that are not trained on; set data.holdout (--set data.holdout=N), or choose another metric with tune.by (--select)", suite.HeldOutLoss)
	}
	return nil
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
