package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/agrdist/agrdist/eval/suite"
)

// Files that Write leaves in the experiment's directory.
const (
	MarkdownFile = "report.md"
	HTMLFile     = "report.html"
	CSVFile      = "report.csv"
	figuresDir   = "figures"
)

// drawn are the metrics that have a figure.
var drawn = []string{suite.HeldOutLoss, suite.FID, "fd", suite.InceptionScore, suite.KernelDistance, "kd"}

// Write writes the report: Markdown, HTML, CSV, and the figures as SVG and PNG. Equal
// results give equal files.
func (r *Results) Write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, figuresDir), 0o755); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	figures, err := r.writeFigures(dir)
	if err != nil {
		return err
	}
	sections := r.sections(figures)
	page, err := html(r.Plan.Title, sections)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	numbers, err := r.csvFile()
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	for name, text := range map[string][]byte{MarkdownFile: markdown(r.Plan.Title, sections), HTMLFile: page, CSVFile: numbers} {
		if err := renameio.WriteFile(filepath.Join(dir, name), text, 0o644, renameio.WithTempDir(dir)); err != nil {
			return fmt.Errorf("compare: %w", err)
		}
	}
	return nil
}

// writeFigures draws the training loss, the held-out loss, the distances and scores,
// and takes the sample grids of the first seed.
func (r *Results) writeFigures(dir string) (out []figure, err error) {
	save := func(name, title string, svg, png []byte) error {
		file := filepath.Join(figuresDir, name)
		for suffix, b := range map[string][]byte{".svg": svg, ".png": png} {
			if err := renameio.WriteFile(filepath.Join(dir, file+suffix), b, 0o644, renameio.WithTempDir(dir)); err != nil {
				return fmt.Errorf("compare: %w", err)
			}
		}
		out = append(out, figure{file + ".svg", title})
		return nil
	}
	add := func(name, title, y string, curves []curve) error {
		if len(curves) == 0 {
			return nil
		}
		svg, png, err := picture(title, "step", y, curves)
		if err != nil {
			return err
		}
		return save(name, title, svg, png)
	}
	if effects := r.effects(); len(effects) > 0 && len(r.Plan.Pairs) > 0 {
		title := fmt.Sprintf("%s, step %d", r.Plan.Title, r.last())
		svg, png, err := forest(title, effects)
		if err != nil {
			return nil, err
		}
		if err := save("effects", title, svg, png); err != nil {
			return nil, err
		}
	}
	if err := add("loss", "Training loss, mean over seeds, 95 % band", "loss", r.lossCurves()); err != nil {
		return nil, err
	}
	for _, metric := range r.metricsOf() {
		kind := kindOf(metric)
		if len(r.Plan.At) < 2 || !slices.Contains(drawn, kind) {
			continue
		}
		for _, weights := range r.Plan.Eval.Weights {
			title := fmt.Sprintf("%s, %s weights, mean over seeds, 95 %% band", metric, weights)
			if err := add(slug(metric+"-"+weights), title, metric, r.metricCurves(metric, weights)); err != nil {
				return nil, err
			}
		}
	}
	for _, run := range r.Runs {
		if run.Seed != r.Plan.Seeds[0] || run.Sample == "" {
			continue
		}
		b, err := os.ReadFile(run.Sample)
		if err != nil {
			continue // a grid that somebody removed is no reason to have no report
		}
		file := filepath.Join(figuresDir, "samples-"+slug(run.Method)+".png")
		if err := renameio.WriteFile(filepath.Join(dir, file), b, 0o644, renameio.WithTempDir(dir)); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		out = append(out, figure{file, fmt.Sprintf("Samples: %s, seed %d", run.Method, run.Seed)})
	}
	return out, nil
}
