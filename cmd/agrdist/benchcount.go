package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/bench"
)

func benchCount() *cobra.Command {
	o := bench.CountConfig{}
	var asJSON bool
	c := &cobra.Command{
		Use: "count", Short: "Kernels, library calls, graphs, waits and bytes of a training step on a GPU",
		Long: `Counts what one step of a worker that trains alone asks of its GPU. Nothing is timed:
the counts are the same on every GPU for which the libraries have the same algorithms.

Bytes are what the calls read and write of the GPU's memory, each element of an operand
once a call; what has one element a channel, a sample or a group is left out, and so are
the libraries' workspaces.`,
		Example: "  agrdist bench count --preset full --batch 128 --precision bf16",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Count(c.Context(), o)
			if err != nil {
				return &usageError{err}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			return r.Print(c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.Preset, "preset", "full", "digits (701,345 parameters), small (1.11M, 32x32) or full (35.7M, 32x32)")
	f.IntVar(&o.Batch, "batch", 128, "images of the step")
	f.StringVar(&o.Precision, "precision", "bf16", "f32 or bf16, as train.precision")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
