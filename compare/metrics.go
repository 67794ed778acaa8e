package compare

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/eval/suite"
)

// kindOf is a metric's name without the network's.
func kindOf(metric string) string {
	if metric == suite.HeldOutLoss {
		return metric
	}
	return metric[strings.LastIndex(metric, "-")+1:]
}

// higherIsBetter says which way a metric goes.
func higherIsBetter(metric string) bool {
	switch kindOf(metric) {
	case suite.InceptionScore, suite.Precision, suite.Recall, suite.Density, suite.Coverage, suite.Sure, suite.Accuracy:
		return true
	}
	return false
}

func better(metric string, a, b float64) bool {
	if higherIsBetter(metric) {
		return a > b
	}
	return a < b
}

// worst is the value of a run that diverged.
func worst(metric string) float64 {
	if higherIsBetter(metric) {
		return math.Inf(-1)
	}
	return math.Inf(1)
}

func metricNames(m map[string]suite.Metric) []string { return slices.Sorted(maps.Keys(m)) }

// order is how metrics are listed: those that papers report first.
var order = []string{suite.HeldOutLoss, suite.FID, "fd", suite.InceptionScore, suite.KernelDistance, "kd", suite.Precision, suite.Recall, suite.Density, suite.Coverage, suite.Sure, suite.Accuracy}

// metricsOf lists the metrics of an experiment.
func (r *Results) metricsOf() []string {
	seen := map[string]bool{}
	for _, p := range r.Points {
		for name := range p.Record.Metrics {
			seen[name] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b string) int {
		if d := slices.Index(order, kindOf(a)) - slices.Index(order, kindOf(b)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// value is a metric of one method and seed; ok is false where there is none.
func (r *Results) value(method string, seed uint64, step int64, weights, metric string) (m suite.Metric, ok bool) {
	for _, p := range r.Points {
		if p.Method == method && p.Seed == seed && p.Step == step && p.Weights == weights {
			m, ok = p.Record.Metrics[metric]
			return m, ok
		}
	}
	return m, false
}

// values are a metric over the seeds that have it, and the mean of their within-run
// deviations (NaN where it has none).
func (r *Results) values(method string, step int64, weights, metric string) (values []float64, within float64) {
	n := 0.0
	for _, seed := range r.Plan.Seeds {
		m, ok := r.value(method, seed, step, weights, metric)
		if !ok {
			continue
		}
		values = append(values, m.Value)
		if m.Deviation != nil {
			within += *m.Deviation
			n++
		}
	}
	return values, within / n
}

// Comparison is a test of one method against another in one metric.
type Comparison struct {
	Method, Against, Metric string
	Paired
}

// comparisons tests every method against the baseline, and the pairs, in one metric at
// the last step; Holm's correction is over the tests of that metric.
func (r *Results) comparisons(metric, weights string) []Comparison {
	p := r.Plan
	var out []Comparison
	add := func(method, against string) {
		if slices.ContainsFunc(out, func(c Comparison) bool { return c.Method == method && c.Against == against }) {
			return
		}
		var d []float64
		var base float64
		for _, seed := range p.Seeds {
			a, okA := r.value(method, seed, slices.Max(p.At), weights, metric)
			b, okB := r.value(against, seed, slices.Max(p.At), weights, metric)
			if okA && okB {
				d = append(d, a.Value-b.Value)
				base += b.Value
			}
		}
		out = append(out, Comparison{method, against, metric, paired(d, p.Effect*base/float64(max(1, len(d))))})
	}
	for _, pair := range p.Pairs {
		add(pair[0], pair[1])
	}
	for _, m := range p.Methods {
		if m.Name != p.Baseline {
			add(m.Name, p.Baseline)
		}
	}
	family := make([]*Paired, len(out))
	for i := range out {
		family[i] = &out[i].Paired
	}
	holm(family)
	return out
}

// verdict puts a comparison into words.
func (c Comparison) verdict() string {
	switch {
	case c.P != c.P:
		return "too few seeds"
	case c.Holm > level:
		return "no detectable difference"
	case better(c.Metric, c.Mean, 0):
		return "better"
	}
	return "worse"
}
