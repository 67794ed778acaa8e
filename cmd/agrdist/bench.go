package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/allreduce/mesh"
	"github.com/agrdist/agrdist/bench"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "bench", Short: "Measure the parts of a step on this machine",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(benchStep(), benchKernels(), benchCount(), benchOptimizer(), benchAllReduce())
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
			return printStep(c.OutOrStdout(), r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Preset, "preset", "digits", "digits (701,345 parameters), small (1.11M, 32x32) or full (35.7M, 32x32)")
	f.IntVar(&o.Batch, "batch", 8, "images of one pass")
	f.IntVar(&o.Threads, "threads", runtime.NumCPU(), "threads; on a GPU they do not count")
	f.StringVar(&o.Device, "device", "cpu", "cpu or cuda")
	f.StringVar(&o.Precision, "precision", "f32", "f32 or bf16, as train.precision")
	f.IntVar(&o.Steps, "steps", 5, "measured steps; the median counts")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printStep(w io.Writer, r bench.StepResult) error {
	threads := ""
	if r.Threads > 0 {
		threads = fmt.Sprintf("%d threads, ", r.Threads)
	}
	share := fmt.Sprintf("%.1f TFLOP/s", r.GFLOP/r.StepMillis)
	if r.PeakGFLOPS > 0 {
		share = fmt.Sprintf("%.1f %% of %.0f GFLOP/s a thread, the measured peak", 100*r.FLOPSShare, r.PeakGFLOPS)
	}
	_, err := fmt.Fprintf(w, `%s: %d parameters, batch %d, %s%s, %s
  images/s  %.2f
  step      %.1f ms (forward and backward %.1f, update %.1f); processor time %.1f ms
  rate      %s (a step is %.1f GFLOP)
  peak RSS  %.0f MB
`, r.Preset, r.Parameters, r.Batch, threads, r.Precision, r.Backend, r.ImagesPerS, r.StepMillis, r.ComputeMillis, r.UpdateMillis,
		r.CPUMillis, share, r.GFLOP, r.RSSMB)
	return err
}

func benchKernels() *cobra.Command {
	o := bench.KernelsConfig{ProbeBytes: bench.ProbeBytes}
	var asJSON bool
	c := &cobra.Command{
		Use: "kernels", Short: "The operations of a step, beside the machine's measured peak",
		Long: `Measures the operations that a step is made of, at the UNet's shapes.

A share is the median of the operation's rate over that of a probe run right
before it: multiply-adds on registers for arithmetic, scaling in place for memory.
On one thread, time is the thread's processor time where the system has it.`,
		Example: "  agrdist bench kernels --filter 'conv3x3|gemm'\n  agrdist bench kernels --threads 2 --json",
		RunE: func(c *cobra.Command, _ []string) error {
			out := c.OutOrStdout()
			var begin func(bench.KernelsResult)
			var each func(bench.KernelResult)
			if !asJSON {
				begin = func(r bench.KernelsResult) {
					fmt.Fprintf(out, "# %s, %d threads, times are %s\n# peak %.1f GFLOP/s a thread; memory %.1f GB/s read, %.1f GB/s scaled in place (%.0f MB)\n%-22s %-14s %10s %14s %7s\n",
						r.Backend, r.Threads, r.Clock, r.GFLOPS, r.ReadGBS, r.ScaleGBS, r.Megabytes, "operation", "shape", "time (ms)", "rate", "share")
				}
				each = func(k bench.KernelResult) {
					rate := fmt.Sprintf("%.1f GFLOP/s", k.GFLOPS)
					if k.GFLOPS == 0 {
						rate = fmt.Sprintf("%.1f GB/s", k.GBS)
					}
					fmt.Fprintf(out, "%-22s %-14s %10.3f %14s %5.0f %%\n", k.Name, k.Shape, k.Millis, rate, 100*k.Share)
				}
			}
			r, err := bench.Kernels(o, begin, each)
			if err != nil {
				return &usageError{err}
			}
			if asJSON {
				return json.NewEncoder(out).Encode(r)
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.Threads, "threads", 1, "threads")
	f.StringVar(&o.Precision, "precision", "f32", "f32 or bf16: what the inputs of matmuls and convolutions are rounded to")
	f.StringVar(&o.Filter, "filter", "", "regular expression on \"operation shape\"")
	f.DurationVar(&o.Budget, "time", time.Second, "time to measure each operation; the median counts")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func benchOptimizer() *cobra.Command {
	o := bench.OptimizerConfig{ProbeBytes: bench.ProbeBytes}
	var asJSON bool
	c := &cobra.Command{
		Use: "optimizer", Short: "The pass after the all-reduce: norms, clip, AGR, Adan, EMA; fused and not",
		Example: "  agrdist bench optimizer --params 35746307 --threads 1",
		RunE: func(c *cobra.Command, _ []string) error {
			out, first := c.OutOrStdout(), true
			err := bench.Optimizer(o, func(r bench.OptimizerResult) {
				if asJSON {
					_ = json.NewEncoder(out).Encode(r) // a closed pipe ends the program anyway
					return
				}
				if first {
					fmt.Fprintf(out, "# %d parameters, %d threads, times are %s; %d bytes a parameter must move\n%-8s %-7s %10s %10s %12s %22s\n",
						r.Parameters, r.Threads, r.Clock, bench.BytesPerParameter, "pass", "kernel", "time (ms)", "norms", "rate (GB/s)", "of scaling in place")
					first = false
				}
				fmt.Fprintf(out, "%-8s %-7s %10.1f %10.1f %12.1f %8.0f %% of %4.1f GB/s\n", r.Variant, r.Kernel, r.Millis, r.NormsMillis, r.GBS, 100*r.Share, r.ScaleGBS)
			})
			if err != nil {
				return &usageError{err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.Params, "params", 35746307, "parameters; the default is the full model's")
	f.IntVar(&o.Threads, "threads", 1, "threads")
	f.IntVar(&o.Steps, "steps", 10, "measured passes; the median counts")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a variant")
	return c
}

func benchAllReduce() *cobra.Command {
	o := bench.AllReduceConfig{}
	var (
		asJSON   bool
		from, to string
		order    string
		security string
		oneRank  bool // this process is one of another's ranks
		together bool
	)
	c := &cobra.Command{
		Use: "allreduce", Short: "Sum of vectors over ranks on this machine, in the columns of nccl-tests",
		Long: `Measures the sum of vectors over ranks on this machine, each in a process of its own.

Times are rank 0's, from a barrier to the return of the call. The vectors lie as the
gradients of a run do, where the ranks of one host can read each other's; --private
has them in ordinary memory, so that they are copied through the transport. --tcp has
the ranks talk as they would over a network, with frames protected by --security.`,
		Example: "  agrdist bench allreduce -n 2 -b 4M -e 128M",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if oneRank {
				return bench.AllReduceRank(c.Context(), c.InOrStdin(), c.OutOrStdout())
			}
			if o.From, err = parseSize(from); err != nil {
				return &usageError{err}
			}
			if o.To, err = parseSize(to); err != nil {
				return &usageError{err}
			}
			if o.Order, err = allreduce.ParseOrder(order); err != nil {
				return &usageError{err}
			}
			if o.Security, err = mesh.ParseSecurity(security); err != nil {
				return &usageError{err}
			}
			if !together {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find this program, to start the ranks: %w", err)
				}
				o.Command = []string{self, "bench", "allreduce", "--as-rank"}
			}
			out := c.OutOrStdout()
			if !asJSON {
				fmt.Fprintf(out, "# %d ranks, order %s, f32 sum%s\n%12s %12s %12s %12s\n", o.World, o.Order, over(o), "bytes", "time (ms)", "algbw (GB/s)", "busbw (GB/s)")
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
	f.BoolVar(&o.TCP, "tcp", false, "talk over TCP, as ranks of several hosts do")
	f.StringVar(&security, "security", "mac", "protection of what goes over TCP: mac, aead or none (allreduce.security)")
	f.BoolVar(&o.Private, "private", false, "vectors that no other process can read")
	f.BoolVar(&together, "in-process", false, "run all ranks in one process")
	f.BoolVar(&asJSON, "json", false, "print one JSON object a size")
	f.BoolVar(&oneRank, "as-rank", false, "be one of the ranks that another process has started")
	_ = f.MarkHidden("as-rank") // it exists
	return c
}

// over says what the vectors travel by, where it is not memory.
func over(o bench.AllReduceConfig) string {
	if !o.TCP {
		return ""
	}
	return fmt.Sprintf(", TCP with security %v", o.Security)
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
