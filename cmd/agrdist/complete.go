package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agrdist/agrdist/config"
)

// completions gives a command and those below it what a shell completes beside
// names of commands and flags: keys and their values, configuration files, runs.
func completions(c *cobra.Command) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if complete := completionOf(f); complete != nil {
			// It fails for a flag that the command does not have.
			_ = c.RegisterFlagCompletionFunc(f.Name, complete)
		}
	})
	if c.ValidArgsFunction == nil {
		switch {
		case strings.Contains(c.Use, "RUN"):
			c.ValidArgsFunction = runDirs
		case !strings.Contains(c.Use, " "):
			c.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	for _, sub := range c.Commands() {
		completions(sub)
	}
}

func completionOf(f *pflag.Flag) cobra.CompletionFunc {
	switch f.Name {
	case "set":
		return completeSetting
	case "config":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		}
	case "from":
		return runDirs
	case "resume":
		return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			dirs, d := runDirs(c, args, prefix)
			return append([]string{"auto", "never"}, dirs...), d
		}
	case "data":
		return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	}
	for _, k := range config.Keys() { // a flag named as the last word of a key has its values
		if strings.HasSuffix(k.Name, "."+f.Name) || k.Name == f.Name {
			if len(k.Choices) > 0 {
				return cobra.FixedCompletions(k.Choices, cobra.ShellCompDirectiveNoFileComp)
			}
		}
	}
	return nil
}

// completeSetting completes key= and, where a key has a fixed set of values or is
// a switch, its values.
func completeSetting(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	name, _, valued := strings.Cut(prefix, "=")
	var out []string
	for _, k := range config.Keys() {
		switch {
		case !valued && strings.HasPrefix(k.Name, prefix):
			out = append(out, k.Name+"=\t"+k.Doc)
		case valued && k.Name == name:
			if k.Path {
				return nil, cobra.ShellCompDirectiveDefault
			}
			values := k.Choices
			if k.Type == "bool" {
				values = []string{"true", "false"}
			}
			for _, v := range values {
				out = append(out, name+"="+v)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// runDirs completes directories: runs under runs/ first, then as shells do.
func runDirs(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if found, err := filepath.Glob(filepath.Join(runsDir, "*", "config.yaml")); err == nil {
		for _, f := range found {
			if dir := filepath.Dir(f); strings.HasPrefix(dir, prefix) {
				out = append(out, dir)
			}
		}
	}
	if len(out) > 0 {
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	if _, err := os.Stat(prefix); prefix != "" && err != nil && !strings.Contains(prefix, string(filepath.Separator)) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
