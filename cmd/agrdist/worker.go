package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/worker"
)

// workerCommand is the process that agrdist run starts for each slot.
func workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Hidden: true, Short: "One worker process; started by agrdist run",
		RunE: func(c *cobra.Command, _ []string) error {
			place, err := worker.ReadSpec()
			if err != nil {
				return &usageError{err}
			}
			// A terminal's Ctrl-C is for the agent, which tells the workers;
			// they lead groups of their own and do not see it.
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(stop)
			supervise.WatchParent(os.Stdin, func() { os.Exit(exitFailed) })
			log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelInfo}))
			code, err := worker.Run(c.Context(), stop, place, log)
			if err != nil {
				return &exitError{code, err.Error()}
			}
			if code != exitOK {
				return &exitError{code: code}
			}
			return nil
		},
	}
}
