package compare

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/eval/suite"
)

// A report is a list of sections, rendered as Markdown or HTML from one source, so that
// the two say the same.

// section is a heading with paragraphs, tables and figures in order.
type section struct {
	title string
	parts []any // string (a paragraph), table, figure
}

// table is cells as text; the first row is the head.
type table struct {
	rows    [][]string
	numbers bool // all but the first column are numbers: right-aligned
}

// figure is an image beside the report.
type figure struct{ file, caption string }

// sections writes the report. It is a pure function of the results and the figures.
func (r *Results) sections(figures []figure) []section {
	out := []section{r.summary(), r.paperTable(), r.finalTable()}
	for _, metric := range r.metricsOf() {
		if s, ok := r.testTable(metric); ok {
			out = append(out, s)
		}
	}
	if len(r.Trials) > 0 {
		out = append(out, r.tuning())
	}
	if len(figures) > 0 {
		s := section{title: "Figures"}
		for _, f := range figures {
			s.parts = append(s.parts, f)
		}
		out = append(out, s)
	}
	return append(out, r.provenance())
}

// primary is the weights that tests are made on.
func (r *Results) primary() string { return r.Plan.Eval.Weights[0] }

func (r *Results) last() int64 { return slices.Max(r.Plan.At) }

// summary says what was done and what the tests found.
func (r *Results) summary() section {
	p := r.Plan
	s := section{title: "What was found"}
	text := fmt.Sprintf("%d methods, seeds %s, %d steps each. Weights: %s. "+
		"Runs with one seed see the same images, timesteps and noise, so differences between methods are tested in pairs; "+
		"p values are of Student's t on the paired differences, corrected by Holm over the tests of a metric; intervals are of 95 %%.",
		len(p.Methods), seedList(p.Seeds), p.Steps, strings.Join(p.Eval.Weights, " and "))
	if p.tuned() {
		text += fmt.Sprintf(" Tuned settings were chosen for each method by %s, in a sweep of %d steps with other seeds.", p.Tune.By, r.tuneSteps())
	} else {
		text += " No setting was tuned: a method that suits the base's settings has an advantage."
	}
	s.parts = append(s.parts, text)
	for _, run := range r.Runs {
		if run.Diverged != "" {
			s.parts = append(s.parts, fmt.Sprintf("%s, seed %d, diverged: %s", run.Method, run.Seed, run.Diverged))
		}
	}
	t := table{rows: [][]string{{"metric", "method", "against", "difference", "p (Holm)", "verdict"}}}
	for _, metric := range r.metricsOf() {
		if !headline(metric) {
			continue
		}
		for _, c := range r.comparisons(metric, r.primary()) {
			if r.isPair(c) {
				t.rows = append(t.rows, []string{c.Metric, c.Method, c.Against, plusMinus(c.Mean, c.Half, true), number(c.Holm, 2), c.verdict()})
			}
		}
	}
	if len(t.rows) > 1 {
		s.parts = append(s.parts, t, "\"No detectable difference\" is not \"no difference\": the tables below say how many seeds a difference of "+
			fmt.Sprintf("%.1f %%", 100*p.Effect)+" would need.")
	}
	for _, pair := range p.Pairs {
		if a, b := r.Chosen[pair[0]], r.Chosen[pair[1]]; !slices.Equal(a, b) {
			s.parts = append(s.parts, fmt.Sprintf("%s runs with %s, %s with %s: what is compared is each method at its own setting, "+
				"and a coarse sweep may have told the two settings apart by chance.", pair[0], strings.Join(a, " "), pair[1], strings.Join(b, " ")))
		}
	}
	return s
}

// headline says whether a metric stands in the first table.
func headline(metric string) bool {
	kind := kindOf(metric)
	return kind == suite.HeldOutLoss || kind == suite.FID || kind == "fd" || kind == suite.InceptionScore
}

// isPair says whether a comparison is one that the experiment is about: a pair, or,
// where there are none, any.
func (r *Results) isPair(c Comparison) bool {
	return len(r.Plan.Pairs) == 0 || slices.Contains(r.Plan.Pairs, [2]string{c.Method, c.Against})
}

func (r *Results) tuneSteps() int64 {
	if r.Plan.Tune.Steps > 0 {
		return r.Plan.Tune.Steps
	}
	return r.Plan.Steps
}

// paperTable is the Inception Score in the layout of the AGR paper's table: mean over
// seeds, and in brackets the within-run deviation over splits that the paper prints.
func (r *Results) paperTable() section {
	s := section{title: "In the layout of the paper's table"}
	for _, metric := range r.metricsOf() {
		kind := kindOf(metric)
		if kind != suite.InceptionScore && kind != suite.FID && kind != "fd" {
			continue
		}
		for _, weights := range r.Plan.Eval.Weights {
			head := []string{metric + ", " + weights}
			for _, step := range r.Plan.At {
				head = append(head, fmt.Sprint(step))
			}
			t := table{rows: [][]string{head}, numbers: true}
			for _, m := range r.Plan.Methods {
				row := []string{m.Name}
				for _, step := range r.Plan.At {
					values, within := r.values(m.Name, step, weights, metric)
					cell := number(sampleOf(values).Mean, 4)
					if within == within {
						cell += "(" + strings.TrimPrefix(fmt.Sprintf("%.2f", within), "0") + ")"
					}
					row = append(row, cell)
				}
				t.rows = append(t.rows, row)
			}
			s.parts = append(s.parts, t)
		}
	}
	s.parts = append(s.parts, "Columns are steps. In brackets, as in the paper: the deviation over the 10 splits of one run, mean over seeds. It says how well one model was measured, not how much models differ between seeds; for that see the next table.")
	return s
}

// finalTable is every metric at the last step: mean over seeds with its interval.
func (r *Results) finalTable() section {
	s := section{title: fmt.Sprintf("At step %d: mean over seeds ± 95 %% interval", r.last())}
	for _, weights := range r.Plan.Eval.Weights {
		t := table{rows: [][]string{append([]string{weights}, r.metricsOf()...)}, numbers: true}
		for _, m := range r.Plan.Methods {
			row := []string{m.Name}
			for _, metric := range r.metricsOf() {
				values, _ := r.values(m.Name, r.last(), weights, metric)
				v := sampleOf(values)
				row = append(row, plusMinus(v.Mean, v.Half, false))
			}
			t.rows = append(t.rows, row)
		}
		s.parts = append(s.parts, t)
	}
	return s
}

// testTable is all tests of one metric.
func (r *Results) testTable(metric string) (section, bool) {
	list := r.comparisons(metric, r.primary())
	if len(list) == 0 {
		return section{}, false
	}
	direction := "lower is better"
	if higherIsBetter(metric) {
		direction = "higher is better"
	}
	t := table{rows: [][]string{{"method", "against", "seeds", "difference ± 95 %", "effect size d_z", "p", "p (Holm)", fmt.Sprintf("seeds to see %.1f %%", 100*r.Plan.Effect), "verdict"}}}
	for _, c := range list {
		need := "more than 10,000"
		if c.Need > 0 {
			need = fmt.Sprint(c.Need)
		}
		if c.P != c.P {
			need = "-"
		}
		t.rows = append(t.rows, []string{
			c.Method, c.Against, fmt.Sprint(c.N), plusMinus(c.Mean, c.Half, true), number(c.Effect, 2), number(c.P, 2), number(c.Holm, 2), need, c.verdict(),
		})
	}
	return section{title: fmt.Sprintf("Paired tests: %s, %s weights, step %d (%s)", metric, r.primary(), r.last(), direction), parts: []any{t}}, true
}

// tuning is the sweep.
func (r *Results) tuning() section {
	p := r.Plan
	s := section{title: "The sweep"}
	t := table{rows: [][]string{{"method", p.Tune.By + " by setting", "chosen"}}}
	var edge []string
	for _, m := range p.Methods {
		combinations := p.combinations(m)
		if len(combinations) == 0 {
			continue
		}
		var cells []string
		for _, c := range combinations {
			cells = append(cells, strings.Join(c, " ")+": "+number(p.sweepMean(m.Name, c, r.Trials), 4))
		}
		chosen := r.Chosen[m.Name]
		t.rows = append(t.rows, []string{m.Name, strings.Join(cells, ", "), strings.Join(chosen, " ")})
		if slices.Equal(chosen, combinations[0]) || slices.Equal(chosen, combinations[len(combinations)-1]) {
			edge = append(edge, m.Name)
		}
	}
	s.parts = append(s.parts, t)
	if len(edge) > 0 {
		s.parts = append(s.parts, "At the edge of the sweep, so that a better value may lie outside: "+strings.Join(edge, ", ")+".")
	}
	return s
}

// provenance says how every number came about.
func (r *Results) provenance() section {
	s := section{title: "Where the numbers come from"}
	if len(r.Points) > 0 {
		d := r.Points[0].Record.Definition
		text := fmt.Sprintf("%d images, seed of the run, against %s (%d images, digest %s); features of %s (digest %s); device %s.",
			d.Images, d.Reference.Name, d.Reference.Images, d.Reference.Digest, networkName(d.Network), d.Network.Digest, d.Device)
		if d.Sampler != nil {
			text = fmt.Sprintf("Sampler %s, %d steps, eta %g, clip %s. ", d.Sampler.Method, d.Sampler.Steps, d.Sampler.Eta, d.Sampler.Clip) + text
		}
		if d.HeldOut != nil {
			text += fmt.Sprintf(" Held-out loss: %d images at %d timesteps each, the same draws for every run.", d.HeldOut.Images, d.HeldOut.Strata)
		}
		s.parts = append(s.parts, text)
	}
	s.parts = append(s.parts, "`agrdist run -c DIR/config.yaml --out DIR` makes a run again, with the same digest on any number of workers; `agrdist eval` prints DIR/eval.jsonl.")
	t := table{rows: [][]string{{"method", "seed", "settings", "directory", "model_digest"}}}
	for _, run := range r.Runs {
		m := r.Plan.method(run.Method)
		settings := append(slices.Clone([]string(m.Set)), r.Chosen[run.Method]...)
		t.rows = append(t.rows, []string{run.Method, fmt.Sprint(run.Seed), strings.Join(settings, " "), r.within(run.Dir), run.Digest})
	}
	s.parts = append(s.parts, t)
	return s
}

// within is a path below the experiment's directory.
func (r *Results) within(path string) string {
	if rel, err := filepath.Rel(r.Plan.Out, path); err == nil {
		return rel
	}
	return path
}

func networkName(n suite.Network) string {
	if n.Name == "" {
		return "the FID Inception"
	}
	return "the " + n.Name + " classifier"
}

func seedList(seeds []uint64) string {
	out := make([]string, len(seeds))
	for i, s := range seeds {
		out[i] = fmt.Sprint(s)
	}
	return strings.Join(out, ", ")
}

// number prints a value with so many significant digits; what there is not, as a dash.
func number(v float64, digits int) string {
	switch {
	case v != v:
		return "-"
	case math.IsInf(v, 0):
		return "diverged"
	}
	return strings.TrimSuffix(fmt.Sprintf("%#.*g", digits, v), ".")
}

// plusMinus prints a value and half its interval, to the digits that the interval
// leaves.
func plusMinus(v, half float64, sign bool) string {
	if v != v {
		return "-"
	}
	format := "%.*f"
	if sign {
		format = "%+.*f"
	}
	scale := math.Abs(v)
	if half == half && half > 0 {
		scale = half
	}
	decimals := 3
	if scale > 0 {
		decimals = min(max(1-int(math.Floor(math.Log10(scale))), 0), 8)
	}
	text := fmt.Sprintf(format, decimals, v)
	if half == half {
		text += fmt.Sprintf(" ± %.*f", decimals, half)
	}
	return text
}
