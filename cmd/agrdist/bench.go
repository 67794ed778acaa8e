package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/bench"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "bench", Short: "Measure the parts of a step on this machine",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(benchStep(), benchAllReduce())
	return c
}

func benchStep() *cobra.Command {
	o := bench.StepConfig{}
	var asJSON bool
	c := &cobra.Command{
		Use: "step", Short: "Forward, backward and update of one worker",
		Example: "  agrdist bench step --preset full --batch 8 --threads 1 --steps 5 --json",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := bench.Step(o)
			if err != nil {
				return &usageError{err}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), `%s: %d parameters, batch %d, %d threads, %s, %s
  images/s  %.2f
  step      %.1f ms (forward and backward %.1f, update %.1f); processor time %.1f ms
  peak RSS  %.0f MB
`, r.Preset, r.Parameters, r.Batch, r.Threads, r.Precision, r.Backend, r.ImagesPerS, r.StepMillis, r.ComputeMillis, r.UpdateMillis, r.CPUMillis, r.RSSMB)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Preset, "preset", "digits", "digits (701,345 parameters), small (1.11M, 32x32) or full (35.7M, 32x32)")
	f.IntVar(&o.Batch, "batch", 8, "images of one pass")
	f.IntVar(&o.Threads, "threads", runtime.NumCPU(), "threads")
	f.StringVar(&o.Precision, "precision", "f32", "f32")
	f.IntVar(&o.Steps, "steps", 5, "measured steps; the median counts")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func benchAllReduce() *cobra.Command {
	o := bench.AllReduceConfig{}
	var (
		asJSON   bool
		from, to string
		order    string
	)
	c := &cobra.Command{
		Use: "allreduce", Short: "Sum of vectors over ranks on this machine, in the columns of nccl-tests",
		Example: "  agrdist bench allreduce -n 2 -b 4M -e 128M",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.From, err = parseSize(from); err != nil {
				return &usageError{err}
			}
			if o.To, err = parseSize(to); err != nil {
				return &usageError{err}
			}
			if o.Order, err = allreduce.ParseOrder(order); err != nil {
				return &usageError{err}
			}
			out := c.OutOrStdout()
			if !asJSON {
				fmt.Fprintf(out, "# %d ranks, order %s, f32 sum\n%12s %12s %12s %12s\n", o.World, o.Order, "bytes", "time (ms)", "algbw (GB/s)", "busbw (GB/s)")
			}
			return bench.AllReduce(c.Context(), o, func(r bench.AllReduceResult) {
				if asJSON {
					_ = json.NewEncoder(out).Encode(r) // a closed pipe ends the program anyway
					return
				}
				fmt.Fprintf(out, "%12d %12.3f %12.2f %12.2f\n", r.Bytes, r.Millis, r.AlgBW, r.BusBW)
			})
		},
	}
	f := c.Flags()
	f.IntVarP(&o.World, "world", "n", 2, "ranks")
	f.StringVarP(&from, "begin", "b", "4K", "smallest vector, bytes; K, M and G are powers of 1024")
	f.StringVarP(&to, "end", "e", "64M", "largest vector, bytes")
	f.Int64VarP(&o.Factor, "factor", "f", 4, "from one size to the next")
	f.IntVarP(&o.Iterations, "iterations", "i", 10, "measured calls a size; the median counts")
	f.StringVar(&order, "order", "tree", "tree or ring")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a size")
	return c
}

// parseSize reads 4096, 4K, 16M, 1G.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	number := strings.TrimRight(strings.ToUpper(s), "B")
	for suffix, u := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > (1<<40)/unit || n*unit < 4 {
		return 0, fmt.Errorf("size %q: write bytes as 4096, 4K or 64M", s)
	}
	return n * unit, nil
}
