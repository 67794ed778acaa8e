package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
)

// said runs a command line in this process.
func said(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// A command line that is nearly right is told the right one.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), nil, 0o600))
	images := t.TempDir()
	for line, want := range map[string]string{
		"runn":                                   `unknown command "runn"; did you mean: agrdist run`,
		"RUN":                                    "did you mean: agrdist run",
		"train":                                  "did you mean: agrdist run",
		"configs/x.yaml":                         "did you mean: agrdist run -c configs/x.yaml",
		"config prnt":                            "did you mean: agrdist config print",
		"frobnicate":                             `unknown command "frobnicate" of agrdist`,
		"checkpoint frobnicate":                  `unknown command "frobnicate" of agrdist checkpoint`,
		"run configs/x.yaml":                     "agrdist run -c configs/x.yaml",
		"run 'my file.yml'":                      "agrdist run -c 'my file.yml'",
		"run train.steps=3":                      "agrdist run --set train.steps=3",
		"run " + dir:                             "agrdist run -c " + filepath.Join(dir, "config.yaml"),
		"run " + images:                          "agrdist run --data " + images,
		"run now":                                `unexpected argument "now": agrdist run takes none, only flags`,
		"config print x.yaml":                    "agrdist config print -c x.yaml",
		"run --steps 3":                          "did you mean --set train.steps=...?",
		"run --learning_rate 3":                  "did you mean --set lr.base=...?",
		"run --lr 3":                             "did you mean --set lr.base=...?",
		"run --epochs 3":                         "agrdist counts steps",
		"run --num-workers 3":                    "did you mean --workers?",
		"run --nproc_per_node=2":                 "did you mean --workers?",
		"run --nnodes=2":                         "did you mean --nodes?",
		"run --output-dir x":                     "did you mean --out?",
		"run --wrokers 3":                        "did you mean --workers?",
		"run --workers x":                        `--workers: "x" is not an integer`,
		"run --workers 1.5":                      `--workers: "1.5" is not an integer`,
		"run --out":                              "--out needs a value",
		"run -q":                                 "unknown flag -q",
		"run -conf x":                            "", // -c onf: a file of that name
		"sample --setps 3":                       "did you mean --steps?",
		"sample --from x --out y.png --steps z":  `--steps: "z" is not an integer`,
		"sample --from x --out y.png --eta much": `--eta: "much" is not a number`,
		"sample --from x --out y.png --seed -1":  `--seed: "-1" is not an integer, 0 or more`,
		"bench kernels --time 3":                 `--time: "3" is not a time such as 30s or 2m`,
		"--steps 3":                              "flags come after a command",
		"checkpoint list":                        "an argument is missing: agrdist checkpoint list RUN",
		"checkpoint list a b":                    "2 arguments given: write agrdist checkpoint list RUN",
		"doctor now":                             `unexpected argument "now": agrdist doctor takes none`,
		"version --json":                         "unknown flag --json",
	} {
		if want == "" {
			continue
		}
		args := strings.Split(strings.ReplaceAll(line, "'my file.yml'", "my\x00file.yml"), " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x00", " ")
		}
		code, out, text := said(args...)
		require.Equal(t, exitUsage, code, line)
		require.Empty(t, out, line)
		require.Contains(t, text, want, line)
		require.Regexp(t, `^agrdist: [^\n]+\nagrdist: see agrdist[a-z ]* --help\n$`, text, line)
	}
}

// Every command says what it is for, shows a command line that is right as far as
// flags and arguments go, and is listed.
func TestEveryCommandHasAnExample(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if !c.IsAvailableCommand() || c.HasAvailableSubCommands() || strings.Contains(c.CommandPath(), "completion") || c.Name() == "help" {
			return
		}
		require.NotEmpty(t, c.Short, c.CommandPath())
		require.NotEmpty(t, c.Example, "%s has no example", c.CommandPath())
		for line := range strings.SplitSeq(strings.ReplaceAll(c.Example, "\\\n", " "), "\n") {
			line, _, _ = strings.Cut(line, " #")
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "agrdist" {
				continue
			}
			for i, w := range words { // up to a pipe or redirection, without quotes
				if strings.ContainsAny(w, "|>&") && !strings.Contains(w, "'") {
					words = words[:i]
					break
				}
			}
			root := rootCommand()
			found, rest, err := root.Find(words[1:])
			require.NoError(t, err, line)
			require.NoError(t, found.ParseFlags(rest), line)
			require.NoError(t, found.ValidateArgs(found.Flags().Args()), line)
		}
	}
	visit(rootCommand())
	_, text, _ := said("help")
	require.Contains(t, text, "\n  completion ")
}

// Keys that help and examples name exist.
func TestHelpNamesKeysThatExist(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, word := range config.UnknownKeys(c.Long + "\n" + c.Short + "\n" + c.Example + "\n" + c.Flags().FlagUsages()) {
			t.Errorf("%s names %s, which is no key", c.CommandPath(), word)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(rootCommand())
}

// What a shell asks for when a person presses Tab.
func TestCompletion(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.MkdirAll("runs/a", 0o755))
	require.NoError(t, os.WriteFile("runs/a/config.yaml", nil, 0o600))
	for _, c := range []struct {
		line []string
		want []string
	}{
		{[]string{"run", "--set", "train.s"}, []string{"train.steps="}},
		{[]string{"run", "--set", "lr.schedule="}, []string{"lr.schedule=constant", "lr.schedule=linear", "lr.schedule=cosine"}},
		{[]string{"run", "--set", "data.flip="}, []string{"data.flip=true", "data.flip=false"}},
		{[]string{"config", "print", "--set", "optimizer.name=ad"}, []string{"optimizer.name=adan", "optimizer.name=adamw"}},
		{[]string{"run", "--resume", ""}, []string{"auto", "never", "runs/a"}},
		{[]string{"sample", "--from", ""}, []string{"runs/a"}},
		{[]string{"sample", "--sampler", ""}, []string{"ddim", "ddpm"}},
		{[]string{"status", ""}, []string{"runs/a"}},
		{[]string{"checkpoint", "verify", "ru"}, []string{"runs/a"}},
		{[]string{"bench", "step", "--precision", ""}, []string{"f32", "bf16"}},
		{[]string{"ch"}, []string{"checkpoint"}},
	} {
		code, out, _ := said(append([]string{cobra.ShellCompRequestCmd}, c.line...)...)
		require.Equal(t, exitOK, code)
		for _, w := range c.want {
			require.Contains(t, "\n"+out, "\n"+w, c.line)
		}
	}
}

func TestIdleWorkers(t *testing.T) {
	for _, c := range []struct {
		workers, batch, chunk int
		nodes, want           string
	}{
		{4, 32, 8, "1", ""},
		{5, 32, 8, "1", "only 4 of 5 workers have work: train.global_batch 32 makes 4 chunks of 8 images; start fewer, or set train.chunk=4"},
		{2, 32, 8, "3", "only 4 of 6 workers have work"},
		{2, 32, 8, "2:9", ""},
		{9, 8, 1, "1", "only 8 of 9 workers have work: train.global_batch 8 makes 8 chunks of 1 images; start fewer (--workers 8)"},
		{3, 8, 8, "1", "only 1 of 3 workers have work: train.global_batch 8 makes 1 chunk of 8 images; start fewer, or set train.chunk=2"},
	} {
		cfg := config.Default()
		cfg.Cluster.Workers, cfg.Train.GlobalBatch, cfg.Train.Chunk, cfg.Cluster.Nodes = c.workers, c.batch, c.chunk, c.nodes
		got := idleWorkers(&cfg)
		if c.want == "" {
			require.Empty(t, got)
		}
		require.True(t, strings.HasPrefix(got, c.want), got)
	}
}
