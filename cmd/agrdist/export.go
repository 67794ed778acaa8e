package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/metrics/export"
	"github.com/agrdist/agrdist/rundir"
)

func exportCommand() *cobra.Command {
	var to, out string
	c := &cobra.Command{
		Use: "export RUN", Short: "Write a run's history and settings for an experiment tracker, as files",
		Long: `Write a run's history and settings for an experiment tracker, as files:

  csv          steps.csv, events.jsonl, config.json
  mlflow       a file store: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri DIR
  wandb-jsonl  rows for wandb.log, and the settings for wandb.init

Nothing is sent anywhere. Weights are exported by agrdist checkpoint export.`,
		Example: "  agrdist export runs/digits --to mlflow --out mlruns",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(export.Formats, to) {
				return &usageError{fmt.Errorf("give --to with one of %s; weights are exported by: agrdist checkpoint export %s DIR", strings.Join(export.Formats, ", "), quoted(args[0]))}
			}
			r, err := exportedRun(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = r.Name + "-" + to
			}
			if err := export.Write(to, out, r); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), out)
			return err
		},
	}
	c.Flags().StringVar(&to, "to", "", strings.Join(export.Formats, ", "))
	c.Flags().StringVar(&out, "out", "", "directory to make (default NAME-FORMAT here)")
	return c
}

func exportedRun(path string) (export.Run, error) {
	events, err := countedEvents(path)
	if err != nil {
		return export.Run{}, err
	}
	r := export.Run{Name: filepath.Base(filepath.Clean(path)), Events: events, Settings: map[string]string{}, Typed: map[string]any{}}
	for _, e := range r.Events {
		if e.Event == metrics.EventFinish {
			r.Model = e.ModelDigest
		}
	}
	b, err := os.ReadFile(rundir.Dir(path).Config())
	if err != nil {
		return r, fmt.Errorf("%s is no run's directory: %w", path, err)
	}
	cfg, err := config.FromYAML(b)
	if err != nil {
		return r, &config.Error{Source: rundir.Dir(path).Config(), Err: err}
	}
	for _, k := range config.Keys() {
		v := k.Value(cfg)
		r.Typed[k.Name], r.Settings[k.Name] = v, fmt.Sprint(v)
	}
	return r, nil
}

// countedEvents are the events that count of a run, or of a file of events.
func countedEvents(path string) ([]metrics.Event, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = rundir.Dir(path).Events()
	}
	all, err := metrics.History(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s does not exist; give a run's directory", path)
	}
	if err != nil {
		return nil, err
	}
	var s metrics.Series
	s.Add(all...)
	return s.Events(), nil
}
