package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/agrdist/agrdist/eval/suite"
)

// Spec is an experiment as a person writes it, in YAML or by flags.
type Spec struct {
	Title string `yaml:"title"`
	Out   string `yaml:"out"`  // the experiment's directory
	Base  string `yaml:"base"` // configuration file, relative to the experiment's; empty: the embedded digits recipe
	// Set is settings of all runs, key: value.
	Set Settings `yaml:"set"`
	// Methods are what is compared. Vary adds the product of its values to each.
	Methods []Method `yaml:"methods"`
	Vary    Grid     `yaml:"vary"`
	// Tune is chosen for each method by a sweep before the comparison.
	Tune Tune `yaml:"tune"`

	Seeds    []uint64 `yaml:"seeds"`
	Steps    int64    `yaml:"steps"` // train.steps; 0: the base's
	At       []int64  `yaml:"at"`    // steps that are evaluated; empty: the last
	Eval     Eval     `yaml:"eval"`
	Parallel int      `yaml:"parallel"` // runs at once; 0: one for each core of the machine, one alone where there are GPUs

	// Baseline is the method that all others are tested against; Pairs are further
	// tests, [method, against].
	Baseline string      `yaml:"baseline"`
	Pairs    [][2]string `yaml:"pairs"`
	// Effect is the relative difference whose detection the power is worked out for;
	// 0: that of AGR on Adan in the paper's table, 9.34 against 9.22.
	Effect float64 `yaml:"effect"`
}

// paperEffect is (9.34 - 9.22) / 9.22.
const paperEffect = 0.013

// Method is one row of the report.
type Method struct {
	Name string   `yaml:"name"`
	Set  Settings `yaml:"set"`
	Tune Grid     `yaml:"tune"` // instead of the experiment's tune.keys
}

// Eval says how checkpoints are judged.
type Eval struct {
	Images    int      `yaml:"images"`    // to generate; 0: as many as the reference has
	Steps     int      `yaml:"steps"`     // of the sampler; 0: the base's sample.steps
	Weights   []string `yaml:"weights"`   // raw, ema or both; the first is what is tested
	Reference string   `yaml:"reference"` // train, heldout, test or an npz file; empty: train
	Inception string   `yaml:"inception"` // the FID Inception's weights; empty: the data set's classifier
}

// Tune is a sweep.
type Tune struct {
	Keys  Grid     `yaml:"keys"`
	Steps int64    `yaml:"steps"` // train.steps of the sweep's runs; 0: as the comparison
	Seeds []uint64 `yaml:"seeds"` // empty: one seed that the comparison does not use
	By    string   `yaml:"by"`    // metric; empty: heldout-loss
}

// Settings are key=value, in the order they were written.
type Settings []string

// UnmarshalYAML reads a mapping of keys to values.
func (s *Settings) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: settings are key: value", n.Line)
	}
	for i := 0; i < len(n.Content); i += 2 {
		text, err := flow(n.Content[i+1])
		if err != nil {
			return err
		}
		*s = append(*s, n.Content[i].Value+"="+text)
	}
	return nil
}

// Grid is keys with the values they take, in the order they were written.
type Grid []Axis

// Axis is one key of a Grid.
type Axis struct {
	Key    string
	Values []string
}

// UnmarshalYAML reads a mapping of keys to lists.
func (g *Grid) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: write it as key: [value, ...]", n.Line)
	}
	for i := 0; i < len(n.Content); i += 2 {
		list := n.Content[i+1]
		if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
			return fmt.Errorf("line %d: %s: write its values as a list, [a, b]", list.Line, n.Content[i].Value)
		}
		a := Axis{Key: n.Content[i].Value}
		for _, v := range list.Content {
			text, err := flow(v)
			if err != nil {
				return err
			}
			a.Values = append(a.Values, text)
		}
		*g = append(*g, a)
	}
	return nil
}

// flow is a YAML value on one line.
func flow(n *yaml.Node) (string, error) {
	if n.Kind == yaml.ScalarNode {
		return n.Value, nil
	}
	n.Style = yaml.FlowStyle
	b, err := yaml.Marshal(n)
	return strings.TrimSpace(string(b)), err
}

// ParseAxis reads KEY=VALUE,VALUE.
func ParseAxis(text string) (Axis, error) {
	key, values, ok := strings.Cut(text, "=")
	if !ok || key == "" || values == "" {
		return Axis{}, fmt.Errorf("%q: write it as key=value,value", text)
	}
	return Axis{Key: key, Values: strings.Split(values, ",")}, nil
}

var seedRange = regexp.MustCompile(`^([0-9]{1,9})\.\.([0-9]{1,9})$`)

// ParseSeeds reads 0..4 or 1,2,3.
func ParseSeeds(text string) (seeds []uint64, err error) {
	var lo, hi uint64
	if m := seedRange.FindStringSubmatch(text); m != nil {
		if _, err := fmt.Sscanf(m[1]+" "+m[2], "%d %d", &lo, &hi); err != nil || hi < lo || hi-lo >= 1000 {
			return nil, fmt.Errorf("seeds %q: write FIRST..LAST, at most 1000 of them", text)
		}
		for s := lo; s <= hi; s++ {
			seeds = append(seeds, s)
		}
		return seeds, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		var s uint64
		if _, err := fmt.Sscanf(part, "%d", &s); err != nil || fmt.Sprint(s) != part {
			return nil, fmt.Errorf("seeds %q: %q is no number; write 0..4 or 1,2,3", text, part)
		}
		seeds = append(seeds, s)
	}
	return seeds, nil
}

// unknownField is how package yaml words it.
var unknownField = regexp.MustCompile(`field (.*) not found in type compare\.(\w+)$`)

// keysOf are the keys of a section of an experiment, by its type's name.
func keysOf(section string) string {
	for _, t := range []reflect.Type{reflect.TypeFor[Spec](), reflect.TypeFor[Method](), reflect.TypeFor[Eval](), reflect.TypeFor[Tune]()} {
		if t.Name() != section {
			continue
		}
		var keys []string
		for f := range t.Fields() {
			keys = append(keys, f.Tag.Get("yaml"))
		}
		return strings.Join(keys, ", ")
	}
	return ""
}

// Parse reads an experiment's file. Unknown keys are errors that name the line.
func Parse(r io.Reader) (*Spec, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	s := &Spec{}
	if err := d.Decode(s); err != nil {
		line, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  "), "\n")
		line = strings.TrimPrefix(line, "yaml: ")
		if m := unknownField.FindStringSubmatchIndex(line); m != nil {
			line = fmt.Sprintf("%sunknown key %q; choose one of %s", line[:m[0]], line[m[2]:m[3]], keysOf(line[m[4]:m[5]]))
		}
		return nil, errors.New(line)
	}
	return s, nil
}

// maxMethods bounds the product of a grid: a mistyped one must not fill the memory.
const maxMethods = 1000

// size is the product of the grid's values, at most maxMethods + 1.
func (g Grid) size() int {
	n := 1
	for _, a := range g {
		n = min(n*max(1, len(a.Values)), maxMethods+1)
	}
	return n
}

// complete fills in what was not said and expands Vary into Methods.
func (s *Spec) complete() error {
	grids := []Grid{s.Vary, s.Tune.Keys}
	for _, m := range s.Methods {
		grids = append(grids, m.Tune)
	}
	for _, g := range grids {
		if g.size()*max(1, len(s.Methods)) > maxMethods {
			return fmt.Errorf("vary or tune has more than %d combinations", maxMethods)
		}
	}
	s.Methods = expand(s.Methods, s.Vary)
	s.Vary = nil
	if len(s.Seeds) == 0 {
		s.Seeds = []uint64{0, 1, 2, 3, 4}
	}
	if len(s.Eval.Weights) == 0 {
		s.Eval.Weights = []string{"raw"}
	}
	if s.Eval.Reference == "" {
		s.Eval.Reference = "train"
	}
	if s.Tune.By != "" && !s.tuned() {
		return fmt.Errorf("tune.by (--select) is %q and nothing is tuned; give tune.keys (--tune KEY=V,V)", s.Tune.By)
	}
	if s.Tune.By == "" {
		s.Tune.By = suite.HeldOutLoss
	}
	if len(s.Tune.Seeds) == 0 {
		s.Tune.Seeds = []uint64{slices.Max(s.Seeds) + 1000}
	}
	if s.Baseline == "" && len(s.Methods) > 0 {
		s.Baseline = s.Methods[0].Name
	}
	if s.Effect == 0 {
		s.Effect = paperEffect
	}
	if s.Title == "" {
		s.Title = "Comparison"
	}
	return nil
}

// tuned says whether any method has a sweep.
func (s *Spec) tuned() bool {
	return len(s.Tune.Keys) > 0 || slices.ContainsFunc(s.Methods, func(m Method) bool { return len(m.Tune) > 0 })
}

// expand is the product of methods and the values of a grid.
func expand(methods []Method, g Grid) []Method {
	if len(g) == 0 {
		return methods
	}
	if len(methods) == 0 {
		methods = []Method{{}}
	}
	for _, axis := range g {
		var next []Method
		for _, m := range methods {
			for _, v := range axis.Values {
				label := axis.Key[strings.LastIndex(axis.Key, ".")+1:] + "=" + v
				if axis.Key == "optimizer.name" {
					label = v
				}
				next = append(next, Method{
					Name: strings.TrimSpace(m.Name + " " + label),
					Set:  append(slices.Clone(m.Set), axis.Key+"="+v), Tune: m.Tune,
				})
			}
		}
		methods = next
	}
	return methods
}

// validate reports what is wrong with a completed experiment, but for the settings'
// own faults.
func (s *Spec) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(s.Methods) < 1 {
		bad("nothing to compare: give methods, or --vary key=value,value")
	}
	names := map[string]bool{}
	for _, m := range s.Methods {
		if m.Name == "" || names[slug(m.Name)] {
			bad("method %q: every method needs a name of its own", m.Name)
		}
		names[slug(m.Name)] = true
	}
	known := func(what, name string) {
		if !slices.ContainsFunc(s.Methods, func(m Method) bool { return m.Name == name }) {
			bad("%s names %q, which is no method", what, name)
		}
	}
	if len(s.Methods) > 0 {
		known("baseline", s.Baseline)
	}
	for _, p := range s.Pairs {
		known("pairs", p[0])
		known("pairs", p[1])
	}
	for _, w := range s.Eval.Weights {
		if w != "raw" && w != "ema" {
			bad("eval.weights has %q; choose raw, ema", w)
		}
	}
	if n := s.Eval.Images; n < 0 || n == 1 {
		bad("eval.images (-n) is %d; a distribution needs at least 2, and 0 means as many as the reference has", n)
	}
	for _, k := range []struct {
		key string
		n   int64
	}{
		{"steps (--steps)", s.Steps},
		{"tune.steps (--tune-steps)", s.Tune.Steps},
		{"eval.steps (--sampler-steps)", int64(s.Eval.Steps)},
		{"parallel (--parallel)", int64(s.Parallel)},
	} {
		if k.n < 0 {
			bad("%s is %d; it must be 0 (the usual) or more", k.key, k.n)
		}
	}
	if kind := kindOf(s.Tune.By); !slices.Contains(order, kind) {
		bad("tune.by (--select) is %q; choose %s, or a metric of an evaluation such as digits-fd or fid", s.Tune.By, suite.HeldOutLoss)
	}
	s.checkOwn(bad)
	if !slices.IsSorted(s.At) || len(s.At) > 0 && s.At[0] < 1 {
		bad("at has %v; give steps in increasing order, from 1", s.At)
	}
	for i, seed := range s.Seeds {
		if slices.Contains(s.Seeds[:i], seed) {
			bad("seeds has %d twice", seed)
		}
	}
	if s.Out == "" {
		bad("out is empty; give the experiment's directory")
	}
	return errors.Join(errs...)
}

// checkOwn refuses settings of what is the experiment's own affair.
func (s *Spec) checkOwn(bad func(format string, args ...any)) {
	own := map[string]string{
		"seed":               "give seeds (--seeds)",
		"out":                "each run has its own directory in the experiment's (--out)",
		"checkpoint.keep_at": "the checkpoints that are evaluated are kept; give at (--at)",
	}
	sets := [][]string{s.Set}
	for _, m := range s.Methods {
		sets = append(sets, m.Set)
		for _, a := range m.Tune {
			sets = append(sets, []string{a.Key})
		}
	}
	for _, a := range s.Tune.Keys {
		sets = append(sets, []string{a.Key})
	}
	told := map[string]bool{}
	for _, set := range sets {
		for _, text := range set {
			key, _, _ := strings.Cut(text, "=")
			if instead := own[key]; instead != "" && !told[key] {
				told[key] = true
				bad("%s is set for runs; %s", key, instead)
			}
		}
	}
}

var notInNames = regexp.MustCompile(`[^a-z0-9.=]+`)

// slug is a name as a file's.
func slug(name string) string {
	return strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-.")
}
