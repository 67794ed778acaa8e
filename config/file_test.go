package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What YAML has beyond keys and values, and what is no YAML at all.
func TestFilesAsTheyAre(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		steps int64  // train.steps, where it is read
		want  string // part of the error otherwise
	}{
		"dotted":               {text: "train.steps: 3", steps: 3},
		"dotted and nested":    {text: "train.steps: 3\ntrain: {steps: 4}", want: ":2: train.steps was already set on line 1"},
		"section twice":        {text: "train: {steps: 3}\ntrain: {chunk: 4}", want: ":2: train was already set on line 1"},
		"key twice":            {text: "train:\n  steps: 3\n  steps: 4", want: ":3: train.steps was already set on line 2"},
		"marks of a document":  {text: "---\ntrain: {steps: 3}\n...\n", steps: 3},
		"empty second":         {text: "train: {steps: 3}\n---\n", steps: 3},
		"empty first":          {text: "---\n---\ntrain: {steps: 3}\n", steps: 3},
		"two documents":        {text: "train: {steps: 3}\n---\ntrain: {steps: 5}\n", want: ":3: a second document begins here"},
		"marks and two":        {text: "---\ntrain: {steps: 3}\n---\ntrain: {steps: 5}\n", want: ":4: a second document begins here"},
		"second is a list":     {text: "train: {steps: 3}\n---\n- 1\n", want: ":3: a second document"},
		"merge":                {text: "train:\n  <<: {steps: 3}\n  chunk: 8", steps: 3},
		"merge, own first":     {text: "train:\n  steps: 3\n  <<: {steps: 4}", steps: 3},
		"merge, own last":      {text: "train:\n  <<: {steps: 4}\n  steps: 3", steps: 3},
		"merge of a list":      {text: "train:\n  <<: [{steps: 3}, {steps: 4, chunk: 8}]", steps: 3},
		"merge of a merge":     {text: "train:\n  <<: {<<: {steps: 4}, steps: 3}", steps: 3},
		"merge of no mapping":  {text: "train:\n  <<: 3", want: ":2: << takes a mapping"},
		"merge of unknown":     {text: "train:\n  <<: {stepz: 3}", want: `:2: unknown key "train.stepz"; did you mean "train.steps"?`},
		"anchor":               {text: "defaults: &d\n  steps: 3\ntrain:\n  <<: *d", steps: 3},
		"anchor under x-":      {text: "x-defaults: &d {steps: 3}\ntrain: *d", steps: 3},
		"x- without an anchor": {text: "x-note: hello\ntrain: {steps: 3}", steps: 3},
		"anchor within":        {text: "shelf:\n  a: &n 3\ntrain: {steps: *n}", steps: 3},
		"anchor not used":      {text: "trian: &d {steps: 3}", want: `:1: unknown key "trian"; did you mean "train"?`},
		"section is an alias":  {text: "x-d: &d {steps: 3, chunk: 4}\ntrain: *d\n", steps: 3},
		"anchor in its place":  {text: "train: {steps: &n 3, global_batch: 32}\nlog: {every: *n}", steps: 3},
		"alias of nothing":     {text: "train: *d", want: "not YAML: unknown anchor 'd' referenced"},
		"anchor in itself":     {text: "x-a: &a {<<: *a, steps: 3}\ntrain: *a", want: "<< merges too much"},
		"merges of merges": {
			text: "x-a: &a {steps: 3}\nx-b: &b {<<: [*a, *a, *a, *a, *a]}\nx-c: &c {<<: [*b, *b, *b, *b, *b]}\n" +
				"x-d: &d {<<: [*c, *c, *c, *c, *c]}\ntrain: {<<: [*d, *d, *d, *d, *d]}\n", want: "<< merges too much",
		},
		"upper case":          {text: "Train:\n  Steps: 3", want: `:1: unknown key "Train"; did you mean "train"?`},
		"upper case within":   {text: "train:\n  Steps: 3", want: `:2: unknown key "train.Steps"; did you mean "train.steps"?`},
		"camel case":          {text: "train:\n  globalBatch: 3", want: `did you mean "train.global_batch"?`},
		"hyphen":              {text: "train:\n  global-batch: 3", want: `did you mean "train.global_batch"?`},
		"odd space":           {text: "train:\n  \u00a0steps: 3", want: "only looks like a space"},
		"tab":                 {text: "train:\n\tsteps: 3", want: ":2: not YAML: it is indented with a tab"},
		"tab deeper":          {text: "seed: 1\ntrain:\n  chunk: 4\n\tsteps: 3", want: ":4: not YAML: it is indented with a tab"},
		"tab after the colon": {text: "train:\n  steps:\t3", steps: 3},
		"TOML":                {text: "[train]\nsteps = 3", want: ":1: this is TOML or INI, not YAML"},
		"TOML, one line":      {text: "steps = 3", want: ":1: this is TOML or INI"},
		"TOML, comment":       {text: "# my run\n\n[train]\nsteps = 3", want: ":3: this is TOML or INI"},
		"TOML, dotted":        {text: "[train.data]\nsteps = 3", want: ":1: this is TOML or INI"},
		"INI":                 {text: "; run\n[train]\nsteps=3", want: ":2: this is TOML or INI"},
		"JSON":                {text: "{\n\t\"train\": {\n\t\t\"steps\": 3\n\t}\n}", steps: 3},
		"a list":              {text: "- train\n- steps", want: ":1: expected sections and keys, such as `seed: 42`, found a list"},
		"a word":              {text: "hello", want: `:1: expected sections and keys, such as ` + "`seed: 42`" + `, found "hello"`},
		"section has a value": {text: "train: 3", want: ":1: train is a section with keys of its own, such as train.steps, not \"3\""},
		"section has a list":  {text: "train: [3]", want: ":1: train is a section with keys of its own, such as train.steps, not a list"},
		"empty section":       {text: "data:\ntrain: {steps: 3}", steps: 3},
		"key has keys":        {text: "train:\n  steps: {a: 1}", want: ":2: train.steps: keys below a setting"},
		"key has a list":      {text: "train:\n  steps: [3]", want: ":2: train.steps: a list is not an integer"},
		"list in a list":      {text: "model: {block_out_channels: [[1]]}", want: "element 1: a list within a list"},
		"key is no word":      {text: "? [a, b]\n: 3", want: ":1: a key is one word"},
		"no value":            {text: "train:\n  steps:\n", want: ":2: train.steps: no value; give an integer"},
		"a tag":               {text: "train: {steps: !!str 3}", steps: 3},
		"a strange tag":       {text: "train: {steps: !include 3}", want: "the tag !include has no meaning here"},
		"quotes":              {text: `train: {steps: "3"}`, steps: 3},
		"Windows":             {text: "\ufefftrain:\r\n  steps: 3\r\n", steps: 3},
		"UTF-16":              {text: "\xff\xfet\x00r\x00a\x00i\x00n\x00.\x00s\x00t\x00e\x00p\x00s\x00:\x00 \x003\x00\n\x00", steps: 3},
		"Latin-1":             {text: "# gr\xf6\xdfe\ntrain: {steps: 3}", want: "c.yaml: it is not a text in UTF-8"},
		"binary":              {text: "\x89PNG\r\n\x1a\n\x00\x00", want: "c.yaml: it is not a text"},
		"empty":               {text: "", steps: 1200},
		"comments":            {text: "# nothing\n", steps: 1200},
		"null":                {text: "null\n", steps: 1200},
		"broken":              {text: "train: {steps: 3", want: "not YAML: "},
		"address without quotes": {
			text: "cluster:\n  join: [::1]:5000\n", want: `:2: not YAML: quote an address that begins with a bracket, as "[::1]:5000"`,
		},
		"control character": {text: `out: "a\tb"`, want: "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, c.text)
			got, err := Load(Source{File: path, Environ: noEnv})
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, c.steps, got.Train.Steps)
				return
			}
			require.ErrorContains(t, err, c.want)
			var refused *Error
			require.ErrorAs(t, err, &refused)
			require.True(t, strings.HasPrefix(err.Error(), path), err)
			require.NotContains(t, err.Error(), "\n", "one fault, one line")
			require.NotContains(t, err.Error(), " yaml: ")
		})
	}
}

// Everything that is wrong is told at once, with its place.
func TestAllFaultsAtOnce(t *testing.T) {
	path := file(t, "seed: x\ntrain:\n  stepz: 3\n  chunk: 1.5\nlr: 3\nlog:\n  every: [1]\n")
	_, err := Load(Source{File: path, Environ: []string{"AGRDIST_SEED=y"}, Set: []string{"train.chunk=z", "nothing"}})
	var lines []string
	for _, e := range unjoin(err) {
		_, ok := e.(*Error) //nolint:errorlint // each one itself, not what it wraps
		require.True(t, ok, "%T", e)
		lines = append(lines, strings.TrimPrefix(e.Error(), path))
	}
	require.Equal(t, []string{
		`:3: unknown key "train.stepz"; did you mean "train.steps"? (agrdist config print lists all)`,
		`:5: lr is a section with keys of its own, such as lr.base, not "3"`,
		`:1: seed: "x" is not an integer`,
		`:4: train.chunk: "1.5" is not an integer`,
		`:7: log.every: a list is not an integer`,
		`AGRDIST_SEED: seed: "y" is not an integer`,
		`--set train.chunk=z: train.chunk: "z" is not an integer`,
		`--set nothing: write it as key=value`,
	}, lines)
	path = file(t, "train: {steps: 0}\nlr:\n  base: -1\nlog: {every: 0}\n")
	_, err = Load(Source{File: path, Environ: []string{"AGRDIST_CLUSTER_WORKERS=0"}, Set: []string{"sample.count=-1"}})
	for _, part := range []string{path + ":1: train.steps is 0", path + ":3: lr.base is -1", path + ":4: log.every is 0", "AGRDIST_CLUSTER_WORKERS: cluster.workers is 0", "configuration: sample.count is -1"} {
		require.ErrorContains(t, err, part)
	}
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		"/no/such.yaml":                  "/no/such.yaml: cannot read it: no such file or directory",
		dir:                              "it is a directory; give a YAML file",
		"/dev/zero":                      "it is not a file",
		filepath.Join(dir, "big.yaml"):   "more than 1 MiB",
		filepath.Join(dir, "big.yaml/a"): "cannot read it: not a directory",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "big.yaml"), make([]byte, maxFile+10), 0o600))
		_, err := Load(Source{File: path, Environ: noEnv})
		require.ErrorContains(t, err, want)
	}
	_, err := Load(Source{File: os.DevNull, Environ: noEnv})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), nil, 0o600))
	_, err = Load(Source{File: dir, Environ: noEnv})
	require.ErrorContains(t, err, "the run's configuration is "+filepath.Join(dir, "config.yaml"))
}

func TestSuggestions(t *testing.T) {
	keys := Keys()
	for _, other := range foreign {
		require.True(t, known(other.key, keys), other.key)
	}
	for name := range foreign {
		require.Equal(t, snake(name), name)
	}
	for _, s := range foreignSections {
		require.True(t, section(s, keys), s)
	}
	for name, want := range map[string]string{
		"train.learning_rate": "lr.base", "learning_rate": "lr.base", "learningRate": "lr.base", "train.lr": "lr.base",
		"batch_size": "train.global_batch", "train.batch-size": "train.global_batch", "epochs": "train.steps", "trainer.max_steps": "train.steps",
		"num_workers": "cluster.workers", "output_dir": "out", "gradient_accumulation_steps": "train.chunk", "data.num_workers": "cluster.workers",
		"train.stepz": "train.steps", "stepz": "train.steps", "workers": "cluster.workers", "train.workers": "cluster.workers",
		"optimizer.lr": "lr.base", "resume": "checkpoint.resume", "optimizer.beta1": "optimizer.betas", "precision": "train.precision",
		"Seed": "seed", "SEED": "seed", "seeds": "seed", "model.image_size": "model.sample_size", "trian.steps": "train.steps",
		"trainsteps": "train.steps", "ema_decay": "train.ema_decay", "frobnicate": "", "train.": "",
		"agr": "optimizer.agr", "agr.enabled": "optimizer.agr", "optimizer.use_agr": "optimizer.agr", "": "",
	} {
		best, _ := suggest(name, false, keys)
		require.Equal(t, want, best, name)
	}
	for name, want := range map[string]string{"Train": "train", "trian": "train", "training": "train", "dataset": "data", "optim": "optimizer", "ddp": "allreduce", "frobnicate": ""} {
		best, _ := suggest(name, true, keys)
		require.Equal(t, want, best, name)
	}
	_, note := suggest("num_train_epochs", false, keys)
	require.Contains(t, note, "epochs x images / train.global_batch")
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"seed: 1\ntrain: {steps: 3}\n", "a: &x [*x]\n", "train:\n  steps: [1, {2: 3}]\n", "x-a: &a {<<: *a}\ntrain: {<<: [*a, *a]}\n",
		"---\nseed: 1\n---\nseed: 2\n", "[train]\nsteps = 3\n", "train:\n\tsteps: 3", "out: !!binary Y2Fm6Q==\n", "? [a]\n: b\n", "<<: {seed: 3}\n",
	} {
		f.Add([]byte(s))
	}
	keys := Keys()
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, faults := parse(text, keys)
		for _, s := range settings {
			require.True(t, known(s.name, keys))
		}
		for _, fault := range faults {
			require.NotEmpty(t, fault.Error())
		}
		c, err := FromYAML(text)
		if err != nil {
			return
		}
		require.Empty(t, faults)
		_ = c.Validate()
		again, err := FromYAML(c.YAML(false))
		require.NoError(t, err)
		again.Cluster.Secret = c.Cluster.Secret
		require.Equal(t, c.YAML(false), again.YAML(false))
	})
}

// One text has one meaning, in a file as in the environment; what is read as an
// integer is the number that its decimal digits say.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"010", "1e5", "[::1]:5000", "[1, 2]", `"a`, `'a''b'`, "1e-9999", "~/x", "0x1p-2", "1e9999", `["a,b", c]`} {
		f.Add(s)
	}
	byName := map[string]Key{}
	for _, k := range Keys() {
		byName[k.Name] = k
	}
	kinds := []string{"seed", "train.steps", "lr.base", "data.flip", "out", "optimizer.eps", "optimizer.betas", "model.attention_levels", "cluster.join"}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range kinds {
			k, a, b := byName[name], Default(), Default()
			err := assign(k.value(&a), textValue(text))
			settings, faults := parse([]byte(name+": "+text), allKeys())
			if len(faults) > 0 || len(settings) != 1 || settings[0].value.list == nil && settings[0].value.text != textValue(text).text {
				continue // YAML's syntax reads another text
			}
			if settings[0].value.list != nil && strings.ContainsAny(text, "!&*#{}|>%@?\\\r\n\"'`") {
				continue // and other elements
			}
			fileErr := assign(k.value(&b), settings[0].value)
			if settings[0].value.list != nil && k.Type == "text" {
				require.Error(t, fileErr)
				continue // brackets are characters elsewhere
			}
			require.Equal(t, err == nil, fileErr == nil, "%s: %v, %v", name, err, fileErr)
			require.Equal(t, k.Value(&a), k.Value(&b), name)
		}
		if i, err := parseInteger(text); err == nil {
			digits := strings.TrimLeft(strings.TrimLeft(text, "+-"), "0")
			if strings.Trim(digits, "0123456789") == "" {
				require.Equal(t, digits, strings.TrimLeft(strings.TrimPrefix(i.String(), "-"), "0"))
			}
		}
	})
}
