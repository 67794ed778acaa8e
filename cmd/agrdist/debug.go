package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/agrdist/agrdist/internal/flight"
	"github.com/agrdist/agrdist/rundir"
)

func debugCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "debug", Short: "Find out why a run hung or broke",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(debugExplain(), debugBundle())
	return c
}

func debugExplain() *cobra.Command {
	asJSON, generation := false, uint64(0)
	c := &cobra.Command{
		Use: "explain RUN [DIR...]", Short: "Say which rank stopped first, where, and who waited for whom",
		Long: `Say which rank stopped first, where, and who waited for whom.

Every worker keeps its last records in memory that outlives it: which phase and which
collective operation it began and ended. The agent writes them to RUN/debug when a
worker dies, is killed for hanging or leaves its group, and at SIGQUIT (Ctrl-\). Nodes
that do not share the run's directory each have their own: give theirs too.`,
		Example: "  agrdist debug explain runs/digits\n  agrdist debug explain node1/run node2/run",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var all []flight.Dump
			for _, dir := range args {
				dumps, err := flight.ReadDumps(rundir.Dir(dir).Debug())
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				all = append(all, dumps...)
			}
			if len(all) == 0 {
				for _, dir := range args {
					if _, err := os.Stat(dir); err != nil {
						return fmt.Errorf("%s: no such directory; give a run's", dir)
					}
				}
				return fmt.Errorf("%s holds no records: nothing went wrong so far; to write them now: kill -QUIT the process of agrdist run", rundir.Dir(args[0]).Debug())
			}
			a, err := flight.Explain(all, generation)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(a)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), a.Text())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().Uint64Var(&generation, "generation", 0, "the generation to explain; 0: the newest in which a worker died, or an operation failed")
	return c
}

func debugBundle() *cobra.Command {
	out := ""
	c := &cobra.Command{
		Use: "bundle RUN", Short: "Make one archive of a run for a bug report, without secrets, images or weights",
		Long: `Make one archive of a run for a bug report: configuration, events, the ends of the
logs, the records of RUN/debug with what debug explain says of them, the names and sizes
of all other files, and the version.

Images, samples, weights, secrets and the page's tokens stay out; what looks like one in
a text is replaced. Look at it before you send it: paths and host names are in it.`,
		Example: "  agrdist debug bundle runs/digits",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := out
			if path == "" {
				path = filepath.Base(filepath.Clean(args[0])) + "-debug.tar.gz"
			}
			if _, err := os.Stat(path); err == nil {
				return fmt.Errorf("%s exists; give another name with --out", path)
			}
			b, err := newBundle(args[0])
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(path, b, 0o600); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d KB; look at it before you send it: tar tzf %s\n", path, (len(b)+1023)/1024, quoted(path))
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "the archive's name (default NAME-debug.tar.gz here)")
	return c
}

// bundleWindow is how much of a file's end goes into a bundle, in bytes.
const bundleWindow = 4 << 20

// bundle collects texts.
type bundle struct {
	tar     *tar.Writer
	secrets []string // replaced wherever they appear
}

// tokens are what is replaced besides the run's own secrets: the page's token in
// addresses and headers, and keys that name a secret with a value behind them.
var tokens = regexp.MustCompile(`(?i)(token=|bearer |secret["']?\s*[:=]\s*["']?)[^\s"'&,}]+`)

func newBundle(dir string) ([]byte, error) {
	d := rundir.Dir(dir)
	if _, err := os.Stat(d.Events()); err != nil {
		if _, err := os.Stat(d.Config()); err != nil {
			return nil, fmt.Errorf("%s is no run's directory: it has neither events.jsonl nor config.yaml", dir)
		}
	}
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	b := &bundle{tar: tar.NewWriter(zipped), secrets: secretsOf(d)}
	account := "no records\n"
	if dumps, err := flight.ReadDumps(d.Debug()); err == nil {
		if a, err := flight.Explain(dumps, 0); err == nil {
			account = a.Text()
		}
	}
	listing, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"version.txt": versionLine() + "\n", "explain.txt": account, "files.txt": listing} {
		if err := b.add(name, []byte(text)); err != nil {
			return nil, err
		}
	}
	for _, pattern := range []string{"config.yaml", "events.jsonl", "eval.jsonl", "coordinator.json", "logs/*.log", "debug/*.json", "debug/*.stacks"} {
		names, err := filepath.Glob(filepath.Join(globbed(dir), pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := b.addFile(dir, name); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(b.tar.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// addFile adds the end of a file. One that is gone by now is left out.
func (b *bundle) addFile(dir, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-bundleWindow), bundleWindow))
	if err != nil {
		return err
	}
	inside, err := filepath.Rel(dir, name)
	if err != nil {
		return err
	}
	return b.add(filepath.ToSlash(inside), text)
}

func (b *bundle) add(name string, text []byte) error {
	text = tokens.ReplaceAll(text, []byte("${1}REMOVED"))
	for _, s := range b.secrets {
		text = bytes.ReplaceAll(text, []byte(s), []byte("REMOVED"))
	}
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Now()}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := b.tar.Write(text)
	return err
}

// secretsOf are the values that must not leave: the run's secret and the tokens of its
// pages.
func secretsOf(d rundir.Dir) (out []string) {
	add := func(s string) {
		if s = strings.TrimSpace(s); len(s) >= 8 {
			out = append(out, s)
		}
	}
	if b, err := os.ReadFile(d.Secret()); err == nil {
		add(string(b))
	}
	add(os.Getenv("AGRDIST_CLUSTER_SECRET"))
	pages, _ := filepath.Glob(filepath.Join(globbed(string(d)), "dashboard-*.json")) // the pattern is well formed
	for _, p := range pages {
		var e struct{ Token string }
		if b, err := os.ReadFile(p); err == nil && json.Unmarshal(b, &e) == nil {
			add(e.Token)
		}
	}
	return out
}

// listFiles lists all files of a run with their sizes.
func listFiles(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what cannot be read is not listed
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			fmt.Fprintf(&b, "%12d  %s  %s\n", info.Size(), info.ModTime().UTC().Format(time.RFC3339), name)
		}
		return err
	})
	return b.String(), err
}

// globbed is a directory that filepath.Glob takes literally.
func globbed(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
