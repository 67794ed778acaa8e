package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// written is a text as a person writes it, and what it means for each kind of key.
type written struct {
	text                     string
	str                      string // "" and refused: a fault
	refusedStr               bool
	integer, number, boolean string // printed; "-": a fault
}

// TestEveryKeyReadsEverySourceAlike gives every key every text through a file, the
// environment and --set: the value is that of the table, or all three refuse it.
func TestEveryKeyReadsEverySourceAlike(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	texts := []written{
		{text: "10", str: "10", integer: "10", number: "10", boolean: "-"},
		{text: "010", str: "010", integer: "10", number: "10", boolean: "-"},
		{text: "0123", str: "0123", integer: "123", number: "123", boolean: "-"},
		{text: "0o10", str: "0o10", integer: "-", number: "-", boolean: "-"},
		{text: "0x10", str: "0x10", integer: "-", number: "-", boolean: "-"},
		{text: "1_000", str: "1_000", integer: "-", number: "-", boolean: "-"},
		{text: "1e5", str: "1e5", integer: "100000", number: "100000", boolean: "-"},
		{text: "0e1", str: "0e1", integer: "0", number: "0", boolean: "-"},
		{text: "1e-5", str: "1e-5", integer: "-", number: "1e-05", boolean: "-"},
		{text: "1.5", str: "1.5", integer: "-", number: "1.5", boolean: "-"},
		{text: "1.50", str: "1.50", integer: "-", number: "1.5", boolean: "-"},
		{text: "+7", str: "+7", integer: "7", number: "7", boolean: "-"},
		{text: "-3", str: "-3", integer: "-3", number: "-3", boolean: "-"},
		{text: "1:30", str: "1:30", integer: "-", number: "-", boolean: "-"},
		{text: "2026-11-27", str: "2026-11-27", integer: "-", number: "-", boolean: "-"},
		{text: "12:30:45", str: "12:30:45", integer: "-", number: "-", boolean: "-"},
		{text: "yes", str: "yes", integer: "-", number: "-", boolean: "true"},
		{text: "No", str: "No", integer: "-", number: "-", boolean: "false"},
		{text: "on", str: "on", integer: "-", number: "-", boolean: "true"},
		{text: "true", str: "true", integer: "-", number: "-", boolean: "true"},
		{text: "FALSE", str: "FALSE", integer: "-", number: "-", boolean: "false"},
		{text: "1", str: "1", integer: "1", number: "1", boolean: "true"},
		{text: "0", str: "0", integer: "0", number: "0", boolean: "false"},
		{text: "null", str: "null", integer: "-", number: "-", boolean: "-"},
		{text: "~", str: "~", integer: "-", number: "-", boolean: "-"},
		{text: ".inf", str: ".inf", integer: "-", number: "-", boolean: "-"},
		{text: ".nan", str: ".nan", integer: "-", number: "-", boolean: "-"},
		{text: "NaN", str: "NaN", integer: "-", number: "-", boolean: "-"},
		{text: `"010"`, str: "010", integer: "10", number: "10", boolean: "-"},
		{text: `'yes'`, str: "yes", integer: "-", number: "-", boolean: "true"},
		{text: `"a b"`, str: "a b", integer: "-", number: "-", boolean: "-"},
		{text: "a b", str: "a b", integer: "-", number: "-", boolean: "-"},
		{text: "größe", str: "größe", integer: "-", number: "-", boolean: "-"},
		{text: "18446744073709551616", str: "18446744073709551616", integer: "-", number: "1.8446744073709552e+19", boolean: "-"},
		{text: "1e400", str: "1e400", integer: "-", number: "-", boolean: "-"},
		{text: "[1]", refusedStr: true, integer: "-", number: "-", boolean: "-"},
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	kinds := map[string]bool{} // the first key of a kind gets all texts, the others those on which sources differed
	for _, k := range Keys() {
		kind := fmt.Sprint(k.Type, k.optional(), k.Path, k.Name == "seed")
		all := !kinds[kind]
		kinds[kind] = true
		for _, w := range texts {
			if !all && !slices.Contains([]string{"010", "1e5", "2026-11-27", "yes", "null", "~", "1.5", `"010"`}, w.text) {
				continue
			}
			if k.Type == "text" && w.refusedStr {
				continue // brackets are a list in a file and characters elsewhere
			}
			want := w.str
			switch strings.TrimPrefix(k.Type, "list of ") {
			case "int":
				want = w.integer
			case "float":
				want = w.number
			case "bool":
				want = w.boolean
			}
			if k.Name == "seed" && w.text == "-3" {
				want = "-"
			}
			if k.Path && w.text == "~" {
				want = "-"
			}
			if k.optional() && (w.text == "null" || w.text == "~") {
				want = "<nil>"
			}
			if strings.HasPrefix(k.Type, "list of ") {
				switch {
				case w.text == "null" || w.text == "~":
					want = "[]"
				case w.text == "[1]":
					want = "[1]"
				case want != "-":
					want = "[" + want + "]"
				}
			}
			for source, got := range everySource(t, path, k, w.text) {
				if got != want { // as require does, in a hundredth of its time
					require.Equal(t, want, got, "%s, %s: %s", k.Name, source, w.text)
				}
			}
		}
	}
}

// everySource reads a text as a key's value through each source. Only the reading
// counts: a value that is out of the key's range is read all the same.
func everySource(t *testing.T, path string, k Key, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	read := func(name string, s Source) {
		if s.Environ == nil {
			s.Environ = noEnv
		}
		c, err := load(s)
		v := fmt.Sprint(k.Value(c))
		if err != nil && strings.Contains(err.Error(), ": "+k.Name+": ") {
			v = "-"
		}
		out[name] = v
	}
	name, nested := k.Name, k.Name+": "+text+"\n"
	if s, key, ok := strings.Cut(k.Name, "."); ok {
		nested = s + ":\n  " + key + ": " + text + "\n"
	}
	require.NoError(t, os.WriteFile(path, []byte(nested), 0o600))
	read("file", Source{File: path})
	read("environment", Source{Environ: []string{k.Env + "=" + text}})
	read("--set", Source{Set: []string{name + "=" + text}})
	return out
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Addresses have the brackets and colons that YAML gives a meaning.
func TestLists(t *testing.T) {
	for text, want := range map[string][]string{
		"[::1]:5000":                   {"[::1]:5000"},
		"[::1]:5000,[fd00::2]:7946":    {"[::1]:5000", "[fd00::2]:7946"},
		"[[::1]:5000]":                 {"[::1]:5000"},
		"[[::1]:5000, [fd00::2]:7946]": {"[::1]:5000", "[fd00::2]:7946"},
		`["[::1]:5000", 'b:2']`:        {"[::1]:5000", "b:2"},
		"a:1":                          {"a:1"},
		"a:1, b:2,":                    {"a:1", "b:2"},
		"[a:1, b:2]":                   {"a:1", "b:2"},
		"10.0.0.1:0123":                {"10.0.0.1:0123"},
		"":                             nil,
		"[]":                           nil,
		"null":                         nil,
	} {
		for name, s := range map[string]Source{
			"environment": {Environ: []string{"AGRDIST_CLUSTER_JOIN=" + text}},
			"--set":       {Environ: noEnv, Set: []string{"cluster.join=" + text}},
			"--join":      {Environ: noEnv, Flags: []Flag{{"--join", "cluster.join", text}}},
			"file":        {Environ: noEnv, File: file(t, "cluster:\n  join: '"+strings.ReplaceAll(text, "'", "''")+"'\n")},
		} {
			if text == "null" && (name == "--join" || name == "file") {
				continue // in quotes it is a host's name
			}
			c, err := Load(s)
			require.NoError(t, err, "%s: %s", name, text)
			require.Equal(t, want, c.Cluster.Join, "%s: %s", name, text)
		}
	}
	for text, want := range map[string]string{"1,,2": "nothing between two commas", "1,x": `element 2: "x" is not an integer`, "64 128": `"64 128" is not an integer`} {
		_, err := Load(Source{Environ: noEnv, Set: []string{"model.block_out_channels=" + text}})
		require.ErrorContains(t, err, want)
	}
}

func TestPaths(t *testing.T) {
	t.Setenv("HOME", "/home/a")
	path := filepath.Join(t.TempDir(), "c.yaml")
	for _, k := range Keys() {
		if !k.Path {
			continue
		}
		for text, want := range map[string]string{
			"~/runs/x": "/home/a/runs/x", "~/": "/home/a/", "a/~/b": "a/~/b", "/x/y~": "/x/y~", "a$": "a$",
			"~": "-", "~bob/x": "-", "$HOME/runs": "-", "${HOME}/runs": "-", "a/$(date)": "-", "runs/$USER": "-",
		} {
			for source, got := range everySource(t, path, k, text) {
				require.Equal(t, want, got, "%s, %s: %s", k.Name, source, text)
			}
		}
	}
	_, err := expandPath("~/x", func() (string, error) { return "", os.ErrNotExist })
	require.ErrorContains(t, err, "HOME is not set")
	c, err := Load(Source{Environ: noEnv, Set: []string{"cluster.run_id=$HOME", "cluster.node=~/x"}})
	require.NoError(t, err)
	require.Equal(t, []string{"$HOME", "~/x"}, []string{c.Cluster.RunID, c.Cluster.Node}, "names are no paths")
}

func TestFlagsAreTakenLiterally(t *testing.T) {
	c, err := Load(Source{Environ: noEnv, Flags: []Flag{{"--out", "out", `"a" , 'b'`}, {"--nodes", "cluster.nodes", "1:3"}}})
	require.NoError(t, err)
	require.Equal(t, `"a" , 'b'`, c.Out)
	require.Equal(t, "1:3", c.Cluster.Nodes)
}

func TestOriginOfEverySource(t *testing.T) {
	path := file(t, "seed: 1\ntrain:\n  steps: 10\n  chunk: 4\nlr: {base: 0.1}\n")
	origin := map[string]string{}
	_, err := Load(Source{
		File: path, Environ: []string{"AGRDIST_TRAIN_STEPS=20", "AGRDIST_LR_BASE=0.2"},
		Set: []string{"lr.base=0.3"}, Flags: []Flag{{"--workers", "cluster.workers", "3"}}, Origin: origin,
	})
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"seed": path + ":1", "train.chunk": path + ":4", "train.steps": "AGRDIST_TRAIN_STEPS", "lr.base": "--set lr.base=0.3", "cluster.workers": "--workers 3",
	}, origin)
}

func TestUnknownVariables(t *testing.T) {
	for name, want := range map[string]string{
		"AGRDIST_TRAIN_STEP":         "AGRDIST_TRAIN_STEPS",
		"AGRDIST_TRAIN__STEPS":       "AGRDIST_TRAIN_STEPS",
		"AGRDIST_STEPS":              "AGRDIST_TRAIN_STEPS",
		"AGRDIST_TRIAN_STEPS":        "AGRDIST_TRAIN_STEPS",
		"agrdist_train_steps":        "AGRDIST_TRAIN_STEPS",
		"AGRDIST_train_steps":        "AGRDIST_TRAIN_STEPS",
		"AGRDIST_WORKERS":            "AGRDIST_CLUSTER_WORKERS",
		"AGRDIST_SECRET":             "AGRDIST_CLUSTER_SECRET",
		"AGRDIST_LEARNING_RATE":      "AGRDIST_LR_BASE",
		"AGRDIST_TRAIN_BATCH_SIZE":   "AGRDIST_TRAIN_GLOBAL_BATCH",
		"AGRDIST_CLUSTER_GOSIP_PORT": "AGRDIST_CLUSTER_GOSSIP_PORT",
		"AGRDIST_CUDAPATH":           "AGRDIST_CUDA_PATH",
		"AGRDIST_SEEDS":              "AGRDIST_SEED",
		"AGRDIST_FROBNICATE":         "unset it",
	} {
		_, err := Load(Source{Environ: []string{"PATH=/bin", name + "=5"}})
		var refused *Error
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, name, refused.Source)
		require.ErrorContains(t, err, want, name)
	}
	ours := []string{
		"NOT_AGRDIST_STEPS=1", "AGRDIST_SERVICE_HOST=10.0.0.1", "AGRDIST_SERVICE_PORT=80", "AGRDIST_DASHBOARD_SERVICE_PORT_HTTP=80",
		"AGRDIST_PORT=tcp://10.0.0.1:80", "AGRDIST_A_PORT_80_TCP_ADDR=10.0.0.1", "AGRDIST_FAKE_GPUS=1", "AGRDIST_CHECKPOINT_TEST_DIR=x",
	}
	for _, o := range others {
		ours = append(ours, o+"=x")
	}
	_, err := Load(Source{Environ: ours})
	require.NoError(t, err)
	_, err = Load(Source{Environ: []string{"AGRDIST_B=1", "AGRDIST_A=2", "AGRDIST_SEED=x"}})
	require.Len(t, unjoin(err), 3, "all of them at once")
}
