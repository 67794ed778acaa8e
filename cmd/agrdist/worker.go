package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/worker"
)

// workerCommand is the process that agrdist run starts for each slot.
func workerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Hidden: true, Short: "One worker process; started by agrdist run",
		RunE: func(c *cobra.Command, _ []string) error {
			code, err := worker.Main(c.Context())
			switch {
			case errors.Is(err, worker.ErrNoSpec):
				return &usageError{err}
			case err != nil:
				return &exitError{code, err.Error()}
			case code != exitOK:
				return &exitError{code: code}
			}
			return nil
		},
	}
}
