package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/metrics/export"
)

func eventsCommand() *cobra.Command {
	format := "csv"
	c := &cobra.Command{
		Use: "events RUN", Short: "Print a run's steps as a table, for notebooks and scripts",
		Long: "Print the step events of a run that count: steps that were taken again after a\n" +
			"crash appear once. --format csv has a header line; parquet is the same table with\n" +
			"types, for pandas, Polars and DuckDB; json is one object a line, as events.jsonl,\n" +
			"with events of all kinds.",
		Example: "  agrdist events runs/digits > steps.csv\n" +
			"  agrdist events runs/digits --format parquet > steps.parquet\n" +
			"  python -c \"import pandas as pd; pd.read_parquet('steps.parquet').plot('step', 'loss')\"",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			out := c.OutOrStdout()
			switch format {
			case "csv", "json":
			case "parquet":
				if isTerminal(out) {
					return &usageError{errors.New("a terminal cannot show parquet; write it to a file: agrdist events RUN --format parquet > steps.parquet")}
				}
			default:
				return &usageError{fmt.Errorf("--format %q: it is csv, parquet or json", format)}
			}
			events, err := countedEvents(args[0])
			if err != nil {
				return err
			}
			switch format {
			case "csv":
				return export.CSV(out, events)
			case "parquet":
				return export.Parquet(out, events)
			}
			for _, e := range events {
				if err := json.NewEncoder(out).Encode(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", format, "csv, parquet or json")
	return c
}
