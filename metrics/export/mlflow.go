package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/agrdist/agrdist/metrics"
)

// The file store of MLflow (mlflow/store/tracking/file_store.py):
//
//	DIR/0/meta.yaml                       the experiment
//	DIR/0/RUN_ID/meta.yaml                the run
//	DIR/0/RUN_ID/metrics/NAME             lines "milliseconds value step"
//	DIR/0/RUN_ID/params/KEY, tags/KEY     a value each
//	DIR/0/RUN_ID/artifacts/
//
// Status 3 is FINISHED, 1 RUNNING. YAML is a superset of JSON.
func writeMLflow(dir string, r Run) error {
	sum := sha256.Sum256([]byte(r.Name + "\x00" + r.begun()))
	id := hex.EncodeToString(sum[:16]) // the same run has the same id
	home, err := filepath.Abs(filepath.Join(dir, "0", id))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	artifacts := "file://" + filepath.ToSlash(filepath.Join(home, "artifacts"))
	begin, end := r.span()
	status := 1
	var ended any
	if r.Model != "" {
		status, ended = 3, end
	}
	errs := []error{
		file(document(map[string]any{
			"artifact_location": "file://" + filepath.ToSlash(filepath.Dir(home)), "creation_time": begin, "experiment_id": "0",
			"last_update_time": end, "lifecycle_stage": "active", "name": "Default",
		}), filepath.Dir(home), "meta.yaml"),
		file(document(map[string]any{
			"artifact_uri": artifacts, "end_time": ended, "entry_point_name": "", "experiment_id": "0", "lifecycle_stage": "active",
			"run_id": id, "run_name": r.Name, "run_uuid": id, "source_name": "agrdist", "source_type": 4, "source_version": "",
			"start_time": begin, "status": status, "tags": []string{}, "user_id": "",
		}), home, "meta.yaml"),
		file(text(r.Name), home, "tags", "mlflow.runName"),
		file(text(""), home, "artifacts", ".keep"),
	}
	if r.Model != "" {
		errs = append(errs, file(text(r.Model), home, "tags", "model_digest"))
	}
	for _, key := range slices.Sorted(maps.Keys(r.Settings)) {
		errs = append(errs, file(text(r.Settings[key]), home, "params", key))
	}
	steps := stepsOf(r.Events)
	for _, c := range metrics.Columns {
		if !slices.ContainsFunc(steps, func(e metrics.Event) bool { return c.Value(e) != nil }) {
			continue
		}
		errs = append(errs, file(func(w io.Writer) error {
			for _, e := range steps {
				x := c.Value(e)
				if x == nil {
					continue
				}
				if _, err := fmt.Fprintf(w, "%d %s %d\n", e.When().UnixMilli(), strconv.FormatFloat(*x, 'g', -1, 64), e.Step); err != nil {
					return err //nolint:wrapcheck // file adds the name
				}
			}
			return nil
		}, home, "metrics", filepath.FromSlash(c.Tag)))
	}
	return errors.Join(errs...)
}

// begun is the time of the first event.
func (r Run) begun() string {
	if len(r.Events) == 0 {
		return ""
	}
	return r.Events[0].Time
}

// span is from the first to the last event, in milliseconds since 1970.
func (r Run) span() (begin, end int64) {
	if n := len(r.Events); n > 0 {
		return r.Events[0].When().UnixMilli(), r.Events[n-1].When().UnixMilli()
	}
	return 0, 0
}
