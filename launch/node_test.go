package launch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDropSelf(t *testing.T) {
	t.Parallel()
	seeds := []string{"run-0.run.ns.svc:7946", "run-1.run.ns.svc:7946", "run-10.run:7946", "10.0.0.1:7946"}
	for name, c := range map[string]struct {
		names []string
		want  []string
	}{
		"first pod":  {[]string{"run-0", ""}, seeds[1:]},
		"second pod": {[]string{"run-1"}, []string{seeds[0], seeds[2], seeds[3]}}, // run-10 is another
		"address":    {[]string{"host", "10.0.0.1"}, seeds[:3]},
		"nobody":     {[]string{"run", "", "ns"}, seeds},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, dropSelf(seeds, c.names...))
		})
	}
	require.Empty(t, dropSelf([]string{"run-0:7946"}, "run-0"), "the only seed starts the run")
	require.Empty(t, dropSelf([]string{"run-0"}, "run-0"), "without a port")
	require.Equal(t, []string{"[::1]:1"}, dropSelf([]string{"[::1]:1", "[::2]:1"}, "::2"))
	require.Empty(t, dropSelf(nil, "run-0"))
}
