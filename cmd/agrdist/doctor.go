package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/doctor"
	"github.com/agrdist/agrdist/internal/version"
)

func doctorCommand() *cobra.Command {
	var (
		asJSON bool
		peers  []string
	)
	c := &cobra.Command{
		Use: "doctor", Short: "Look at this machine before a run does, and say what is missing",
		Long: "Look at this machine: processor, memory, transports, GPUs and NVIDIA's libraries.\n" +
			"A line is ok, a note (slower, or not there), or a failure with what to do about it.\n" +
			"Exit code 1 where a run on this machine would fail.",
		Example: "  agrdist doctor\n  agrdist doctor --json\n  agrdist doctor --peers 10.0.0.1:7946,10.0.0.2:7946",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			found := append(doctor.Examine(c.Context()), doctor.Peers(c.Context(), peers)...)
			if err := printFindings(c.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if doctor.Failed(found) {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&peers, "peers", nil, "HOST:PORT of other nodes: connect to each and say which does not answer")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printFindings(w io.Writer, found []doctor.Finding, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Version  string           `json:"version"`
			Platform string           `json:"platform"`
			Findings []doctor.Finding `json:"findings"`
		}{version.Build(), version.Platform(), found})
	}
	if _, err := fmt.Fprintf(w, "agrdist %s %s\n", version.Build(), version.Platform()); err != nil {
		return err
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(w, "%-5s %-14s %s\n", f.Status, f.Name, f.Text); err != nil {
			return err
		}
		if f.Fix != "" {
			if _, err := fmt.Fprintf(w, "%-5s %-14s -> %s\n", "", "", f.Fix); err != nil {
				return err
			}
		}
	}
	return nil
}
