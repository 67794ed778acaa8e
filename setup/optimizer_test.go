package setup

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// What is said to be a default is one: written into the configuration, it changes
// nothing; and a key that an optimizer is said not to take is refused.
func TestOptimizerDefaults(t *testing.T) {
	for _, name := range optim.Names() {
		taken := 0
		for _, k := range config.Keys() {
			key, ok := strings.CutPrefix(k.Name, "optimizer.")
			if !ok || key == "name" || strings.HasPrefix(key, "agr") {
				continue
			}
			text, takes := OptimizerDefault(name, key)
			load := func(set ...string) (optim.Config, error) {
				c, err := config.Load(config.Source{Environ: []string{}, Set: append(set, "optimizer.name="+name)})
				require.NoError(t, err)
				return OptimizerConfig(c)
			}
			if !takes {
				other := map[string]string{"bool": "true", "list of float": "[0.5]"}[k.Type]
				if other == "" {
					other = "0.5"
				}
				_, err := load(k.Name + "=" + other)
				require.Error(t, err, "%s %s", name, key)
				continue
			}
			taken++
			want, err := load()
			require.NoError(t, err)
			got, err := load(k.Name + "=" + text)
			require.NoError(t, err)
			require.Equal(t, want, got, "%s %s", name, key)
		}
		require.NotZero(t, taken)
	}
}

// The ablations of AGR come through; without AGR there are none.
func TestAGR(t *testing.T) {
	load := func(set ...string) *config.Config {
		c, err := config.Load(config.Source{Environ: []string{}, Set: set})
		require.NoError(t, err)
		return c
	}
	require.Equal(t, &agr.Config{Tensors: agr.TensorsAll, Order: agr.AfterClip, Scope: agr.ScopeTensor}, AGR(load()))
	require.Equal(t, &agr.Config{Tensors: agr.TensorsVectors, Order: agr.BeforeClip, Scope: agr.ScopeGroup},
		AGR(load("optimizer.agr_tensors=vectors", "optimizer.agr_order=before_clip", "optimizer.agr_scope=group")))
	require.Nil(t, AGR(load("optimizer.agr=false", "optimizer.agr_tensors=vectors")))
}

// Biases and the weights of norms are vectors, and nothing else is.
func TestSegmentsKnowVectors(t *testing.T) {
	c := config.Default()
	be := cpu.New(cpu.Config{Threads: 1})
	defer be.Close()
	m, err := Model(be, &c)
	require.NoError(t, err)
	defer m.Close()
	for _, s := range Segments(m.Params()) {
		require.Equal(t, strings.HasSuffix(s.Name, ".bias") || strings.Contains(s.Name, "norm"), s.Vector, s.Name)
	}
}
