package setup

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/optim"
)

// What is said to be a default is one: written into the configuration, it changes
// nothing; and a key that an optimizer is said not to take is refused.
func TestOptimizerDefaults(t *testing.T) {
	for _, name := range optim.Names() {
		taken := 0
		for _, k := range config.Keys() {
			key, ok := strings.CutPrefix(k.Name, "optimizer.")
			if !ok || key == "name" || key == "agr" {
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
