package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// noEnv is an environment without settings.
var noEnv = []string{}

// The recipes of the digits are those of the program: one the defaults, the other what a
// run without a file does.
func TestDigitsRecipes(t *testing.T) {
	plain := Default()
	plain.Out = "runs/digits-cpu"
	quick := Quickstart()
	for file, want := range map[string]*Config{"digits-cpu": &plain, "digits": &quick} {
		c, err := Load(Source{File: "../configs/" + file + ".yaml", Environ: noEnv})
		require.NoError(t, err)
		require.True(t, c.given["train.steps"])
		c.given = nil
		require.Equal(t, want, c)
	}
	c, err := Load(Source{Environ: noEnv})
	require.NoError(t, err)
	require.Equal(t, &quick, c)
}

// Another data set, from whatever source, has the defaults and not the digits' classes.
func TestQuickstartIsForDigits(t *testing.T) {
	for name, s := range map[string]Source{
		"set":         {Set: []string{"data.name=folder", "data.dir=x"}, Environ: noEnv},
		"environment": {Environ: []string{"AGRDIST_DATA_NAME=cifar10", "AGRDIST_DATA_DIR=x"}},
	} {
		c, err := Load(s)
		require.NoError(t, err, name)
		require.Equal(t, Default().Model, c.Model, name)
		require.Equal(t, Default().Sample, c.Sample, name)
	}
	c, err := Load(Source{Set: []string{"data.name=digits", "seed=7"}, Workers: 5, Environ: noEnv})
	require.NoError(t, err)
	require.Equal(t, Quickstart().Model, c.Model)
	require.Equal(t, 5, c.Cluster.Workers)
	require.EqualValues(t, 7, c.Seed)
}

func TestRecipesAreValid(t *testing.T) {
	files, err := filepath.Glob("../configs/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 7)
	hashes := map[string]string{}
	for _, f := range files {
		c, err := Load(Source{File: f, Environ: noEnv})
		require.NoError(t, err, f)
		require.Empty(t, hashes[c.Hash()], "%s trains the same model as %s", f, hashes[c.Hash()])
		hashes[c.Hash()] = f
		require.Equal(t, "runs/"+strings.TrimSuffix(filepath.Base(f), ".yaml"), c.Out)
	}
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("seed: 1\ntrain: {steps: 10, chunk: 4}\nlr: {base: 0.1}\n"), 0o600))
	env := []string{"AGRDIST_TRAIN_STEPS=20", "AGRDIST_LR_BASE=0.2", "AGRDIST_MODEL_BLOCK_OUT_CHANNELS=64,128"}
	c, err := Load(Source{
		File: file, Set: []string{"lr.base=0.3", "model.attention_levels=[0, 1]", "optimizer.eps=1e-6"},
		Environ: env,
	})
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Seed)
	require.Equal(t, int64(20), c.Train.Steps)
	require.Equal(t, 4, c.Train.Chunk)
	require.InDelta(t, 0.3, c.LR.Base, 0)
	require.Equal(t, []int{64, 128}, c.Model.BlockOutChannels)
	require.Equal(t, []int{0, 1}, c.Model.AttentionLevels)
	require.InDelta(t, 1e-6, *c.Optimizer.Eps, 0)
	require.Equal(t, 32, c.Train.GlobalBatch, "defaults stay")
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		set  []string
		want []string // parts of the message
	}{
		"unknown key":      {yaml: "seed: 1\ntrain:\n  stepz: 3\n", want: []string{"c.yaml:3: ", `"train.stepz"`, `"train.steps"`}},
		"wrong section":    {yaml: "steps: 3\n", want: []string{"c.yaml:1: ", `"train.steps"`}},
		"unknown section":  {yaml: "trian: {steps: 3}\n", want: []string{`"trian"`}},
		"twice":            {yaml: "seed: 1\nseed: 2\n", want: []string{"c.yaml:2: seed was already set on line 1"}},
		"not YAML":         {yaml: "a: [", want: []string{"not YAML"}},
		"a list":           {yaml: "- 1\n", want: []string{"c.yaml:1: "}},
		"section is value": {yaml: "train: 3\n", want: []string{"c.yaml:1: "}},
		"float for int":    {yaml: "train: {steps: 1.5}\n", want: []string{"c.yaml:1", "train.steps", `"1.5" is not an integer`}},
		"text for bool":    {yaml: "data: {flip: maybe}\n", want: []string{"data.flip", `"maybe" is not true or false`}},
		"not a number":     {yaml: "lr: {base: .nan}\n", want: []string{"lr.base", "is not a number"}},
		"chunk":            {set: []string{"train.chunk=5"}, want: []string{"global_batch 32", "chunk 5", "1, 2, 4, 8, 16, 32"}},
		"no workers":       {set: []string{"cluster.workers=0"}, want: []string{"cluster.workers is 0", "--workers"}},
		"set without =":    {set: []string{"seed"}, want: []string{"--set seed", "key=value"}},
		"set unknown":      {set: []string{"train.step=1"}, want: []string{`"train.steps"`}},
		"choice":           {set: []string{"lr.schedule=linaer"}, want: []string{"constant, linear, cosine"}},
		"data dir":         {set: []string{"data.name=cifar10"}, want: []string{"data.dir"}},
		"halving":          {set: []string{"model.sample_size=9"}, want: []string{"9", "divisible by 2"}},
		"nodes":            {set: []string{"cluster.nodes=3:2"}, want: []string{"MIN:MAX"}},
		"bind a port":      {set: []string{"cluster.bind=127.0.0.1:5000"}, want: []string{`give the address alone, "127.0.0.1"`}},
		"bind a name":      {set: []string{"cluster.bind=node1"}, want: []string{"cluster.bind is", "give an IP address of this node"}},
		"advertise a port": {set: []string{"cluster.advertise=10.0.0.1:7946"}, want: []string{"cluster.advertise is", "without a port"}},
		"join no port":     {set: []string{"cluster.join=10.0.0.1"}, want: []string{"cluster.join has", "10.0.0.1:7946"}},
		"join a name port": {set: []string{"cluster.join=a:http"}, want: []string{"cluster.join has"}},
		"join no brackets": {set: []string{"cluster.join=fd00::2:7946"}, want: []string{"[fd00::2]:7946"}},
		"topology letters": {set: []string{"cluster.topology=zone a/rack-7"}, want: []string{`cluster.topology is "zone a/rack-7"`, "a path such as zone-a/rack-7"}},
		"topology length":  {set: []string{"cluster.topology=" + strings.Repeat("r", 256)}, want: []string{"cluster.topology is", "256 bytes; give at most 255"}},
		"lock wait":        {set: []string{"cluster.lock_wait=3"}, want: []string{`cluster.lock_wait is "3"`, "3m"}},
		"attention":        {set: []string{"model.block_out_channels=32"}, want: []string{"model.attention_levels has 1", "levels 0 to 0"}},
		"time":             {set: []string{"allreduce.timeout=30"}, want: []string{"30s"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yaml")
			require.NoError(t, os.WriteFile(file, []byte(c.yaml), 0o600))
			_, err := Load(Source{File: file, Set: c.set, Environ: noEnv})
			var refused *Error
			require.ErrorAs(t, err, &refused)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestTopology(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "/": "", "rack-7": "rack-7", "zone-a/rack-7": "zone-a/rack-7", "//zone-a//host.example.org": "zone-a/host.example.org",
	} {
		got, err := ParseTopology(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"zone a", "zone\n", "$(TOPOLOGY_RACK)/h", "z\u00f6ne", "caf\xe9"} {
		_, err := ParseTopology(text)
		require.Error(t, err, text)
	}
}

// What is read reads as itself, and has no empty level.
func FuzzParseTopology(f *testing.F) {
	for _, s := range []string{"", "zone-a/rack-7", "//a//b.c/", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, err := ParseTopology(text)
		if err != nil {
			return
		}
		again, err := ParseTopology(path)
		require.NoError(t, err)
		require.Equal(t, path, again)
		require.True(t, path == "" || !strings.Contains("/"+path+"/", "//"), path)
	})
}

func TestMissingFile(t *testing.T) {
	_, err := Load(Source{File: "/no/such.yaml", Environ: noEnv})
	require.ErrorContains(t, err, "/no/such.yaml: cannot read it")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestEnvironmentErrorNamesTheVariable(t *testing.T) {
	_, err := Load(Source{Environ: []string{"AGRDIST_SEED=x"}})
	require.ErrorContains(t, err, "AGRDIST_SEED")
}

func TestYAMLRoundTrip(t *testing.T) {
	c, err := Load(Source{Environ: noEnv, Set: []string{
		"optimizer.betas=[0.9, 0.99]", "optimizer.no_prox=true", "cluster.join=[a:1, b:2]",
		"seed=18446744073709551615", "cluster.secret=hush", "cluster.run_id=1e5", "cluster.node=0123", "data.dir=caf\xe9", "out=null",
	}})
	require.NoError(t, err)
	c.given = nil // a saved configuration was given to nobody
	require.Empty(t, c.Contradictions(must(FromYAML(c.YAML(false)))), "what is saved does not contradict itself")
	defaults := Default()
	require.Empty(t, defaults.Contradictions(must(FromYAML(defaults.YAML(false)))))
	for _, docs := range []bool{false, true} {
		text := c.YAML(docs)
		require.NotContains(t, string(text), "hush")
		back, err := FromYAML(text)
		require.NoError(t, err)
		back.Cluster.Secret = "hush"
		require.Equal(t, c, back)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHashSeesTheBitsAndNothingElse(t *testing.T) {
	a := Default()
	b := a
	b.Out, b.Cluster.Workers, b.Train.Threads, b.Train.Steps, b.Data.Dir = "x", 7, 3, 9, "y"
	require.Equal(t, a.Hash(), b.Hash())
	require.Empty(t, b.Contradictions(&a))
	eps := 1e-9
	b.Optimizer.Eps, b.LR.Base = &eps, 1
	require.NotEqual(t, a.Hash(), b.Hash())
	require.Equal(t, []string{
		"optimizer.eps is 1e-09, the checkpoint has the default",
		"lr.base is 1, the checkpoint has 0.002",
	}, b.Contradictions(&a))
	eps2 := 1e-9
	c := b
	c.Optimizer.Eps = &eps2
	require.Equal(t, b.Hash(), c.Hash(), "an optional value counts, not its address")
}

func TestEveryKeyIsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		require.NotEmpty(t, k.Doc, k.Name)
		require.False(t, seen[k.Name], k.Name)
		seen[k.Name] = true
	}
	require.True(t, seen["train.steps"])
}

// An address has brackets only in front of a port; both ways mean the same.
func TestHosts(t *testing.T) {
	for text, want := range map[string]string{"[::]": "::", "::": "::", "[::1]": "::1", "0.0.0.0": "0.0.0.0", "localhost": "127.0.0.1", "[fd00::2]": "fd00::2"} {
		for _, key := range []string{"bind", "advertise"} {
			c, err := Load(Source{Environ: []string{"AGRDIST_CLUSTER_" + strings.ToUpper(key) + "=" + text}})
			require.NoError(t, err, text)
			require.Equal(t, want, map[string]string{"bind": c.Cluster.Bind, "advertise": c.Cluster.Advertise}[key], text)
		}
	}
}
