// Command agrdist trains diffusion models on many workers, with the same bits on
// any number of them. See `agrdist help` and README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/config"
)

// Exit codes of the command line.
const (
	exitOK     = 0
	exitFailed = cluster.ExitFailed
	exitUsage  = 2
	exitConfig = cluster.ExitBadConfig // never worth a retry
	exitSignal = cluster.ExitStopped   // stopped by a signal, after a checkpoint
)

// exitError ends the program with a code; an empty text prints nothing.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// extra are commands of builds for a purpose; see man.go.
var extra []func() *cobra.Command

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	out := c.ErrOrStderr()
	var (
		exit    *exitError
		usage   *usageError
		refused *config.Error
	)
	switch {
	case errors.As(err, &exit):
		if exit.text != "" {
			complain(out, exit.text, exit.code)
		}
		return exit.code
	case errors.As(err, &usage):
		complain(out, err.Error(), exitUsage)
		fmt.Fprintf(out, "agrdist: see %s --help\n", c.CommandPath())
		return exitUsage
	case errors.As(err, &refused):
		complain(out, err.Error(), exitConfig)
		return exitConfig
	}
	complain(out, err.Error(), exitFailed)
	return exitFailed
}

// complain prints why the program ends with a code, each line with the program's name.
func complain(w io.Writer, text string, code int) {
	if j, ok := w.(*jsonLines); ok {
		j.ended(code, strings.TrimSpace(text))
		return
	}
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		fmt.Fprintln(w, "agrdist: "+line)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "agrdist",
		Short: "Train diffusion models on many workers, with the same bits on any number of them",
		Long: `agrdist trains DDPM and DDIM models with AGR-regularised optimizers on many
worker processes. The model after step N is a function of the configuration and
the seed alone: the same bits on 1, 2, 3 or 8 workers, through a killed worker, a
stop and a resume.

  agrdist run            train on the embedded digits, here, on the CPU
  agrdist sample --from runs/digits --out grid.png`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	// cobra's own flag prints by a template, or another line than `agrdist version`. Templates
	// find methods by name, and the linker then leaves none out of the program.
	line := root.Flags().BoolP("version", "v", false, "version for agrdist")
	root.RunE = func(c *cobra.Command, _ []string) error {
		if !*line {
			return c.Help()
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), versionLine())
		return err
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(
		runCommand(), workerCommand(), sampleCommand(), checkpointCommand(),
		configCommand(), benchCommand(), dataCommand(), doctorCommand(), versionCommand(),
		statusCommand(), stopCommand(), runsCommand(), dashboardCommand(), eventsCommand(), exportCommand(), debugCommand(),
		evalCommand(), compareCommand(), pkiCommand(),
	)
	for _, c := range extra {
		root.AddCommand(c())
	}
	wrapUsage(root)
	completions(root)
	root.InitDefaultCompletionCmd()
	return root
}
