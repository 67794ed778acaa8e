package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/internal/version"
	"github.com/agrdist/agrdist/setup"
)

// settings are the flags that every command with a configuration has.
type settings struct {
	file string
	set  []string
	base *config.Config // instead of the defaults
}

func (s *settings) flags(c *cobra.Command) {
	c.Flags().StringVarP(&s.file, "config", "c", "", "YAML configuration; none: the embedded digits recipe")
	c.Flags().StringArrayVar(&s.set, "set", nil, "set one key, as train.steps=40; may be repeated (agrdist config print lists all keys)")
}

// load reads and checks the configuration; flags win over --set.
func (s *settings) load(flags ...config.Flag) (*config.Config, error) {
	for _, set := range s.set {
		if key, _, _ := strings.Cut(set, "="); strings.TrimSpace(key) == "cluster.secret" {
			return nil, &usageError{errors.New("--set cluster.secret=...: every user of this machine can read arguments (ps); " +
				"put the secret in AGRDIST_CLUSTER_SECRET, or in a file that cluster.secret_file names")}
		}
	}
	return setup.Load(config.Source{Base: s.base, File: s.file, Set: s.set, Flags: flags})
}

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Print or check a configuration",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var s settings
	show := &cobra.Command{
		Use: "print", Short: "Print the resolved configuration with the description of every key",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(cfg.YAML(true))
			return err
		},
	}
	validate := &cobra.Command{
		Use: "validate", Short: "Check a configuration without running it",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "valid: %d steps of %d images in chunks of %d, hash %s\n",
				cfg.Train.Steps, cfg.Train.GlobalBatch, cfg.Train.Chunk, cfg.Hash())
			return err
		},
	}
	s.flags(show)
	s.flags(validate)
	c.AddCommand(show, validate)
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "agrdist %s %s\n", version.Build(), version.Platform())
			return err
		},
	}
}
