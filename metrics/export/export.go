package export

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/agrdist/agrdist/metrics"
)

func stepsOf(events []metrics.Event) []metrics.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e metrics.Event) bool { return e.Event != metrics.EventStep })
}

// CSV writes the step events as a table with a header line. What is not known is empty.
func CSV(out io.Writer, events []metrics.Event) error {
	w := csv.NewWriter(out)
	head := []string{"step", "time"}
	for _, c := range metrics.Columns {
		head = append(head, c.Name)
	}
	_ = w.Write(append(head, "world_size", "generation")) // w keeps the error
	for _, e := range stepsOf(events) {
		row := []string{strconv.FormatInt(e.Step, 10), e.Time}
		for _, c := range metrics.Columns {
			cell := ""
			if x := c.Value(e); x != nil {
				cell = strconv.FormatFloat(*x, 'g', -1, 64)
			}
			row = append(row, cell)
		}
		_ = w.Write(append(row, strconv.Itoa(e.WorldSize), strconv.FormatUint(e.Generation, 10))) // as above
	}
	w.Flush()
	return w.Error() //nolint:wrapcheck // the writer's own
}

// Run is what an export of a whole run tells.
type Run struct {
	Name   string
	Events []metrics.Event // that count, see metrics.Series
	// Settings are the configuration, by key; values as text.
	Settings map[string]string
	// Typed are the same as JSON has them.
	Typed map[string]any
	Model string // the model digest of a finished run; "": it did not finish
}

// Formats are the names of Write's formats.
var Formats = []string{"csv", "mlflow", "wandb-jsonl"}

// Write writes a run into a directory, which must not exist or be empty.
func Write(format, dir string, r Run) error {
	write, ok := map[string]func(string, Run) error{"csv": writeCSV, "mlflow": writeMLflow, "wandb-jsonl": writeWandB}[format]
	if !ok {
		return fmt.Errorf("export: format %q; it is one of %s", format, strings.Join(Formats, ", "))
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("export: %s is not empty; give a directory that does not exist", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return write(dir, r)
}

// file writes one file of an export.
func file(content func(w io.Writer) error, path ...string) (err error) {
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := errors.Join(content(f), f.Close()); err != nil {
		return fmt.Errorf("export: %s: %w", name, err)
	}
	return nil
}

func text(s string) func(w io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err //nolint:wrapcheck // file adds the name
	}
}

// document is indented JSON.
func document(v any) func(w io.Writer) error {
	return func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v) //nolint:wrapcheck // as above
	}
}

func writeCSV(dir string, r Run) error {
	return errors.Join(
		file(func(w io.Writer) error { return CSV(w, r.Events) }, dir, "steps.csv"),
		file(func(w io.Writer) error {
			e := json.NewEncoder(w)
			for _, v := range r.Events {
				if err := e.Encode(v); err != nil {
					return err //nolint:wrapcheck // as above
				}
			}
			return nil
		}, dir, "events.jsonl"),
		file(document(r.Typed), dir, "config.json"),
	)
}

// writeWandB writes what wandb.log takes, a row a line, and what wandb.init takes as
// config. The form of W&B's own offline runs is private to its client.
func writeWandB(dir string, r Run) error {
	return errors.Join(
		file(func(w io.Writer) error {
			e := json.NewEncoder(w)
			for _, s := range stepsOf(r.Events) {
				row := map[string]any{"_step": s.Step, "_timestamp": float64(s.When().UnixMilli()) / 1000, "run/world_size": s.WorldSize}
				for _, c := range metrics.Columns {
					if x := c.Value(s); x != nil {
						row[c.Tag] = *x
					}
				}
				if err := e.Encode(row); err != nil {
					return err //nolint:wrapcheck // as above
				}
			}
			return nil
		}, dir, "wandb-history.jsonl"),
		file(document(r.Typed), dir, "config.json"),
		file(document(map[string]any{"name": r.Name, "model_digest": r.Model}), dir, "wandb-summary.json"),
	)
}
