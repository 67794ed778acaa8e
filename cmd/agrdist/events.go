package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/metrics"
)

func eventsCommand() *cobra.Command {
	format := "csv"
	c := &cobra.Command{
		Use: "events RUN", Short: "Print a run's steps as a table, for notebooks and scripts",
		Long: "Print the step events of a run that count: steps that were taken again after a\n" +
			"crash appear once. --format csv has a header line; json is one object a line, as\n" +
			"events.jsonl, with events of all kinds.",
		Example: "  agrdist events runs/digits > loss.csv\n" +
			"  python -c \"import pandas as pd; pd.read_csv('loss.csv').plot('step', 'loss')\"",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := args[0]
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				path = filepath.Join(path, "events.jsonl")
			}
			all, err := metrics.History(path)
			if err != nil {
				return err
			}
			var s metrics.Series
			s.Add(all...)
			switch format {
			case "csv":
				return writeCSV(c.OutOrStdout(), s.Events())
			case "json":
				for _, e := range s.Events() {
					if err := json.NewEncoder(c.OutOrStdout()).Encode(e); err != nil {
						return err
					}
				}
				return nil
			}
			return &usageError{fmt.Errorf("--format %q: it is csv or json", format)}
		},
	}
	c.Flags().StringVar(&format, "format", format, "csv or json")
	return c
}

// writeCSV writes the step events.
func writeCSV(out io.Writer, events []metrics.Event) error {
	w := csv.NewWriter(out)
	head := []string{"step", "time"}
	for _, c := range metrics.Columns {
		head = append(head, c.Name)
	}
	_ = w.Write(append(head, "world_size", "generation")) // w keeps the error
	for _, e := range events {
		if e.Event != metrics.EventStep {
			continue
		}
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
	return w.Error()
}
