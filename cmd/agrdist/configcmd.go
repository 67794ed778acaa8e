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

	origin map[string]string // filled in by load where it is not nil
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
	return setup.Load(config.Source{Base: s.base, File: s.file, Set: s.set, Flags: flags, Origin: s.origin})
}

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Print or check a configuration",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var s settings
	show := &cobra.Command{
		Use: "print", Short: "Print every key with its value, description, default and source",
		Long: `Print the resolved configuration: every key, its value, what it means, and in
brackets where the value comes from (a file and line, an environment variable,
--set) and the default it replaces. The output is itself a configuration file.`,
		Example: `  agrdist config print
  agrdist config print -c configs/cifar10-adan-agr.yaml --set train.chunk=4 > my.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			s.origin = map[string]string{}
			cfg, err := s.load()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(cfg.Annotated(annotation(cfg, s.origin)))
			return err
		},
	}
	validate := &cobra.Command{
		Use: "validate", Short: "Check a configuration without running it",
		Long:    "Check a configuration: the file, AGRDIST_ variables and --set. All faults are\nreported at once. Exit code 42 where there are any.",
		Example: "  agrdist config validate -c configs/digits-cpu.yaml --set train.chunk=3",
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

// annotation returns what is printed beside each key: its description, its default
// and where its value comes from.
func annotation(cfg *config.Config, origin map[string]string) func(config.Key) string {
	defaults := config.Default()
	if n := setup.GPUs(cfg.Device); n > 0 {
		defaults.Cluster.Workers = n
	}
	return func(k config.Key) string {
		var note string
		switch source, given := origin[k.Name]; {
		case given && k.Secret():
			note = "hidden; from " + source
		case given:
			note = fmt.Sprintf("from %s; default %s", source, shownDefault(k, cfg, &defaults))
		default:
			note = "default"
			if k.Value(cfg) == nil || strings.HasPrefix(k.Name, "optimizer.betas") {
				note = "default " + shownDefault(k, cfg, &defaults)
			}
		}
		return strings.ReplaceAll(fmt.Sprintf("%s [%s]", k.Doc, note), "\n", " ")
	}
}

// shownDefault is a key's default in words. Those of the optimizer depend on which
// it is.
func shownDefault(k config.Key, cfg, defaults *config.Config) string {
	name, ok := strings.CutPrefix(k.Name, "optimizer.")
	if !ok || name == "name" || strings.HasPrefix(name, "agr") {
		switch v := k.Value(defaults).(type) {
		case string:
			return fmt.Sprintf("%q", v)
		case []int, []int64, []string:
			return strings.ReplaceAll(fmt.Sprint(v), " ", ", ")
		default:
			return fmt.Sprint(v)
		}
	}
	text, takes := setup.OptimizerDefault(cfg.Optimizer.Name, name)
	if !takes {
		return "none: " + cfg.Optimizer.Name + " does not take it"
	}
	return text + " of " + cfg.Optimizer.Name
}

func versionLine() string { return fmt.Sprintf("agrdist %s %s", version.Build(), version.Platform()) }

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  agrdist version",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), versionLine())
			return err
		},
	}
}
