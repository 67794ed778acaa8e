package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/checkpoint"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/recipe"
	"github.com/agrdist/agrdist/rundir"
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/worker"
)

func checkpointCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "checkpoint", Short: "List, verify, export and import checkpoints",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	list := &cobra.Command{
		Use: "list RUN", Short: "List a run's checkpoints, newest first", Args: cobra.ExactArgs(1),
		Example: "  agrdist checkpoint list runs/digits",
		RunE:    func(c *cobra.Command, args []string) error { return listCheckpoints(c.OutOrStdout(), args[0]) },
	}
	verify := &cobra.Command{
		Use: "verify RUN|CHECKPOINT", Short: "Read checkpoints whole and compare every checksum", Args: cobra.ExactArgs(1),
		Example: "  agrdist checkpoint verify runs/digits\n  agrdist checkpoint verify runs/digits/checkpoints/step-600",
		RunE: func(c *cobra.Command, args []string) error {
			return verifyCheckpoints(c.Context(), c.OutOrStdout(), args[0])
		},
	}
	var raw bool
	var length float64
	export := &cobra.Command{
		Use: "export RUN|CHECKPOINT|FILE.pt DIR", Short: "Write a diffusers pipeline directory (averaged weights)", Args: cobra.ExactArgs(2),
		Long: `Write a diffusers pipeline directory with the averaged weights, or with --raw the others.

--ema-length chooses the length of the average after the training: 0.05 weighs updates
by a power function whose width is 5 % of the training (sigma_rel of EDM2). It combines
the averages of all checkpoints that the run kept (checkpoint.keep, keep_every, keep_at):
those of train.ema_profiles, of which a few will do, or else the moving averages.`,
		Example: "  agrdist checkpoint export runs/digits pipeline   # DDPMPipeline.from_pretrained(\"pipeline\")\n" +
			"  agrdist checkpoint export --ema-length 0.1 runs/mine pipeline",
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("ema-length") {
				return exportCheckpoint(c.Context(), c.OutOrStdout(), args[0], args[1], raw)
			}
			if raw {
				return &usageError{errors.New("--raw and --ema-length exclude each other")}
			}
			pipeline, what, err := averagedPipeline(c.Context(), args[0], length)
			if err == nil {
				err = checkpoint.Export(args[1], pipeline)
			}
			if err == nil {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s: diffusers pipeline of %s\n", args[1], what)
			}
			return err
		},
	}
	export.Flags().Float64Var(&length, "ema-length", 0, "width of a power-function average, a part of the training")
	export.Flags().BoolVar(&raw, "raw", false, "raw weights instead of their moving average")
	c.AddCommand(list, verify, export, importCommand())
	return c
}

// importCommand makes a run out of another program's model, to train it further.
func importCommand() *cobra.Command {
	var (
		s   settings
		raw bool
	)
	c := &cobra.Command{
		Use: "import DIR|FILE.pt RUN", Short: "Make a run at step 0 from a model of diffusers or pytorch-ddpm, to train it further", Args: cobra.ExactArgs(2),
		Long: `Make a run at step 0 from a diffusers directory, or from a checkpoint of
w86763777/pytorch-ddpm (ckpt.pt). The model and the schedule are the source's,
everything else (data, batch, optimizer, ...) comes from -c and --set. Train it with:
agrdist run -c RUN/config.yaml

A .pt file is a pickle: only its tensors are read, and one that names anything else
is refused. The run begins with its averaged weights, with --raw with the others.`,
		Example: `  agrdist checkpoint import google/ddpm-cat-256 runs/cats --set data.name=folder --set data.dir=cats
  agrdist checkpoint import logs/DDPM_CIFAR10_EPS/ckpt.pt runs/mine -c configs/cifar10-adan-agr.yaml`,
		RunE: func(c *cobra.Command, args []string) error {
			src, err := rundir.OpenWeights(c.Context(), args[0], raw)
			if err == nil && !src.Kind.Foreign() {
				err = fmt.Errorf("%s is a %v of agrdist; agrdist run --resume continues it", args[0], src.Kind)
			}
			if err != nil {
				return err
			}
			made, err := recipe.Of(src)
			if err == nil {
				err = recipe.Trainable(src, made)
			}
			if err != nil {
				return err
			}
			model, process := made.Config.Model, made.Config.Diffusion
			if s.file == "" { // the quickstart's settings suit its own model
				defaults := config.Default()
				s.base = &defaults
			}
			const imported = "the imported model's"
			cfg, err := s.load(
				config.Flag{Name: "RUN", Key: "out", Text: args[1]},
				config.Flag{Name: imported, Key: "model.sample_size", Text: strconv.Itoa(model.SampleSize)},
				config.Flag{Name: imported, Key: "sample.steps", Text: strconv.Itoa(min(50, process.Timesteps))},
				config.Flag{Name: imported, Key: "diffusion.timesteps", Text: strconv.Itoa(process.Timesteps)},
			)
			if err != nil {
				return err
			}
			cfg.Model, cfg.Diffusion = model, process
			return importPipeline(c.Context(), c.OutOrStdout(), cfg, src.Weights())
		},
	}
	s.flags(c)
	c.Flags().BoolVar(&raw, "raw", false, "raw weights instead of their moving average")
	return c
}

func importPipeline(ctx context.Context, out io.Writer, cfg *config.Config, tensors []checkpoint.Tensor) error {
	if err := errors.Join(cfg.Validate(), setup.Check(cfg)); err != nil {
		return &config.Error{Source: "configuration with the imported model", Err: err}
	}
	dir, err := rundir.At(cfg.Out)
	if err != nil {
		return err
	}
	lock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }() // the process ends
	if infos, bad, err := dir.Store(checkpoint.Options{}).List(); err != nil || len(infos)+len(bad) > 0 {
		return errors.Join(err, fmt.Errorf("%s holds a run already; choose another directory", cfg.Out))
	}
	// The file is read from other working directories, too.
	cfg.Out = string(dir)
	if d := cfg.Data.Dir; d != "" {
		if cfg.Data.Dir, err = filepath.Abs(d); err != nil {
			return err
		}
	}
	path, err := worker.Begin(ctx, cfg, tensors)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(dir.Config(), cfg.YAML(false), 0o644, renameio.WithTempDir(filepath.Dir(dir.Config()))); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: step 0 with the imported weights\ntrain with: %s run -c %s\n", path, program(os.Args[0]), quoted(dir.Config()))
	return err
}

func listCheckpoints(out io.Writer, path string) error {
	s, err := rundir.Checkpoints(path)
	if err != nil {
		return err
	}
	infos, bad, err := s.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tCREATED\tMiB\tDIGEST\tPATH")
	for _, i := range infos {
		fmt.Fprintf(w, "%d\t%s\t%.1f\t%s\t%s\n", i.Step, i.Created.Local().Format("2006-01-02 15:04:05"),
			float64(i.Bytes())/(1<<20), short(i.ModelDigest), i.Path)
	}
	for _, b := range bad {
		fmt.Fprintf(w, "%d\tdamaged: %v\t\t\t%s\n", b.Step, b.Reason, b.Path)
	}
	return w.Flush()
}

func verifyCheckpoints(ctx context.Context, out io.Writer, path string) error {
	if _, err := os.Stat(filepath.Join(path, checkpoint.ManifestFile)); err == nil {
		info, err := checkpoint.Verify(ctx, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "step %d: verified, %d files, digest %s\n", info.Step, len(info.Files), info.ModelDigest)
		return err
	}
	s, err := rundir.Checkpoints(path)
	if err != nil {
		return err
	}
	good, bad, err := s.Verify(ctx)
	if err != nil {
		return err
	}
	for _, i := range good {
		fmt.Fprintf(out, "step %d: verified, %d files, digest %s\n", i.Step, len(i.Files), i.ModelDigest)
	}
	for _, b := range bad {
		fmt.Fprintf(out, "step %d: DAMAGED: %v\n", b.Step, b.Reason)
	}
	if len(bad) > 0 {
		fix := "a resume takes the newest good one"
		if len(good) == 0 {
			fix = "restore one from a copy, or start from scratch with --resume never"
		}
		return fmt.Errorf("%d of %d checkpoints in %s are damaged; %s", len(bad), len(good)+len(bad), s.Dir(), fix)
	}
	return nil
}

func exportCheckpoint(ctx context.Context, out io.Writer, from, to string, raw bool) error {
	part := checkpoint.EMA
	if raw {
		part = checkpoint.Model
	}
	src, err := rundir.Open(ctx, from, part)
	if err == nil && src.Kind == rundir.Pipeline {
		err = fmt.Errorf("%s is a diffusers directory already", from)
	}
	if err != nil {
		return err
	}
	raw = raw || src.Kind.Foreign() && !src.Averaged() // the file of one model
	pipeline, err := src.State.Pipeline(raw)
	if err != nil {
		return err
	}
	if err := checkpoint.Export(to, pipeline); err != nil {
		return err
	}
	what := fmt.Sprintf("step %d", src.State.Step)
	if src.Kind.Foreign() {
		what = from
	}
	_, err = fmt.Fprintf(out, "%s: diffusers pipeline of %s\n", to, what)
	return err
}
