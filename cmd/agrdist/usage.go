package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agrdist/agrdist/config"
)

// wrapUsage makes mistakes in the arguments of a command and of those below it
// usage errors that say what to type instead.
func wrapUsage(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		switch {
		case err == nil:
			return nil
		case c.HasAvailableSubCommands():
			return &usageError{unknownCommand(c, args[0])}
		}
		return &usageError{wrongArguments(c, args)}
	}
	for _, sub := range c.Commands() {
		wrapUsage(sub)
	}
}

// verbs are what other programs call our commands.
var verbs = map[string]string{
	"train": "run", "start": "run", "launch": "run", "resume": "run", "fit": "run", "torchrun": "run",
	"generate": "sample", "infer": "sample", "inference": "sample", "predict": "sample", "draw": "sample",
	"check": "doctor", "env": "doctor", "info": "doctor", "diagnose": "doctor",
	"evaluate": "eval", "test": "eval", "fid": "eval", "benchmark": "bench", "ps": "runs", "ls": "runs", "list": "runs",
	"top": "status", "ui": "dashboard", "tensorboard": "dashboard", "serve": "dashboard",
	"import": "checkpoint import", "validate": "config validate",
	"ckpt": "checkpoint", "checkpoints": "checkpoint", "cfg": "config", "configs": "config", "logs": "events", "sweep": "compare", "dataset": "data",
}

// unknownCommand words the error for a word where a command is expected.
func unknownCommand(c *cobra.Command, word string) error {
	under := c.CommandPath()
	if file, ok := configFile(word); ok && !c.HasParent() {
		return fmt.Errorf("unknown command %q; did you mean: %s run -c %s", word, under, quoted(file))
	}
	best, distance := "", 3
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if d := levenshtein.Distance(strings.ToLower(word), sub.Name(), nil); d < distance {
			best, distance = sub.Name(), d
		}
	}
	if other, ok := verbs[strings.ToLower(word)]; ok && !c.HasParent() && best == "" {
		best = other
	}
	if best != "" {
		return fmt.Errorf("unknown command %q; did you mean: %s %s", word, under, best)
	}
	return fmt.Errorf("unknown command %q of %s", word, under)
}

// wrongArguments words the error for arguments that a command does not take.
func wrongArguments(c *cobra.Command, args []string) error {
	path := c.CommandPath()
	if c.Flags().Lookup("set") != nil && len(args) > 0 && c.Use == c.Name() {
		word := args[0]
		switch info, err := os.Stat(word); {
		case strings.Contains(word, "="):
			return fmt.Errorf("unexpected argument %q; to set a key: %s --set %s", word, path, quoted(word))
		case err == nil && info.IsDir() && exists(filepath.Join(word, "config.yaml")):
			return fmt.Errorf("unexpected argument %q; to continue that run: %s -c %s", word, path, quoted(filepath.Join(word, "config.yaml")))
		case err == nil && info.IsDir() && c.Flags().Lookup("data") != nil:
			return fmt.Errorf("unexpected argument %q; to train on the images of a directory: %s --data %s", word, path, quoted(word))
		}
		if file, ok := configFile(word); ok {
			return fmt.Errorf("unexpected argument %q; a configuration file goes with -c: %s -c %s", word, path, quoted(file))
		}
	}
	use := strings.TrimPrefix(c.UseLine(), c.Root().Name()+" ")
	if len(args) == 0 {
		return fmt.Errorf("an argument is missing: %s %s", c.Root().Name(), use)
	}
	if c.Use == c.Name() {
		return fmt.Errorf("unexpected argument %q: %s takes none, only flags", args[0], path)
	}
	return fmt.Errorf("%s given: write %s %s", plural(len(args), "argument"), c.Root().Name(), use)
}

// configFile tells whether a word looks like a configuration file.
func configFile(word string) (string, bool) {
	switch strings.ToLower(filepath.Ext(word)) {
	case ".yaml", ".yml", ".json", ".toml":
		return word, true
	}
	return "", false
}

var invalidValue = regexp.MustCompile(`^invalid argument "(.*)" for "(?:-\w, )?(--[\w-]+)" flag: `)

// wrongFlag words an error of the flags.
func wrongFlag(c *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
	)
	switch {
	case errors.As(err, &unknown):
		return &usageError{unknownFlag(c, unknown)}
	case errors.As(err, &missing):
		if f := missing.GetFlag(); f != nil {
			return &usageError{fmt.Errorf("--%s needs a value: %s", f.Name, f.Usage)}
		}
	}
	if m := invalidValue.FindStringSubmatch(err.Error()); m != nil {
		if f := c.Flags().Lookup(strings.TrimPrefix(m[2], "--")); f != nil {
			return &usageError{fmt.Errorf("%s: %q is not %s", m[2], m[1], kind(f))}
		}
	}
	return &usageError{err}
}

// kind is a flag's type in words.
func kind(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int", "int64":
		return "an integer"
	case "uint64":
		return "an integer, 0 or more"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	case "duration":
		return "a time such as 30s or 2m"
	}
	return "a " + f.Value.Type()
}

// unknownFlag words the error for a flag that the command does not have: another
// of its flags that is spelled alike, or the key that --set takes.
func unknownFlag(c *cobra.Command, e *pflag.NotExistError) error {
	name := e.GetSpecifiedName()
	if shorts := e.GetSpecifiedShortnames(); shorts != "" {
		if shorts == name {
			return fmt.Errorf("unknown flag -%s", name)
		}
		return fmt.Errorf("unknown flag -%s in -%s; a flag of several letters has two hyphens", name, shorts)
	}
	plain := strings.ReplaceAll(name, "_", "-")
	best, distance := "", max(3, len(plain)/2)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		d := levenshtein.Distance(plain, f.Name, nil)
		if d < distance && !f.Hidden {
			best, distance = f.Name, d
		}
	})
	switch sets := c.Flags().Lookup("set") != nil; {
	case best != "" && distance <= 2:
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, best)
	case sets:
		if key, note := config.Suggest(name); key != "" {
			if f := flagOf(c, key); f != "" {
				return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, f)
			}
			return errors.New(strings.TrimSpace(fmt.Sprintf("unknown flag --%s; did you mean --set %s=...? %s", name, key, note)))
		}
	case !c.HasParent():
		return fmt.Errorf("unknown flag --%s; flags come after a command, such as %s run --workers 2", name, c.Name())
	}
	if best != "" {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, best)
	}
	return fmt.Errorf("unknown flag --%s", name)
}

// flagOf is the flag of a command that stands for a key: its description ends in
// the key's name.
func flagOf(c *cobra.Command, key string) (name string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasSuffix(f.Usage, "("+key+")") {
			name = f.Name
		}
	})
	return name
}

// idleWorkers warns where a run has more workers than a step has chunks.
func idleWorkers(c *config.Config) string {
	lo, _, err := config.ParseNodes(c.Cluster.Nodes)
	workers, chunks := lo*c.Cluster.Workers, c.Train.GlobalBatch/c.Train.Chunk
	if err != nil || workers <= chunks {
		return ""
	}
	text := fmt.Sprintf("only %d of %d workers have work: train.global_batch %d makes %s of %d images",
		chunks, workers, c.Train.GlobalBatch, plural(chunks, "chunk"), c.Train.Chunk)
	var fits []int
	for d := 1; d < c.Train.Chunk; d++ {
		if c.Train.GlobalBatch%d == 0 && c.Train.GlobalBatch/d >= workers {
			fits = append(fits, d)
		}
	}
	if len(fits) == 0 {
		return text + fmt.Sprintf("; start fewer (--workers %d), or set a larger train.global_batch", max(1, chunks/lo))
	}
	return text + fmt.Sprintf("; start fewer, or set train.chunk=%d in a new run (it changes the bits)", slices.Max(fits))
}
