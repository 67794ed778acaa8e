package launch

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStopper(t *testing.T) {
	const (
		term, intr, hup, usr1 = syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1
		sec                   = time.Second
	)
	type at struct {
		after time.Duration // the signal before
		sig   os.Signal
	}
	for _, c := range []struct {
		name     string
		terminal bool
		signals  []at
		want     string
	}{
		{"one", false, []at{{0, term}}, "stop"},
		{"timeout(1): child, then group", false, []at{{0, term}, {50 * time.Millisecond, term}}, "stop -"},
		{"a burst", false, []at{{0, term}, {0, term}, {0, intr}, {0, hup}, {sec / 2, term}, {sec / 2, intr}}, "stop - - - - -"},
		{"a burst on a terminal", true, []at{{0, intr}, {0, intr}, {sec, intr}}, "stop - -"},
		{"Ctrl-C twice, slowly", true, []at{{0, intr}, {sec + 1, intr}}, "stop kill"},
		{"Ctrl-C after SIGTERM", true, []at{{0, term}, {2 * sec, intr}}, "stop kill"},
		{"SIGTERM after Ctrl-C", true, []at{{0, intr}, {2 * sec, term}, {2 * sec, term}}, "stop - kill"},
		{"nobody's keyboard", false, []at{{0, intr}, {2 * sec, intr}, {2 * sec, intr}}, "stop - kill"},
		{"bursts", false, []at{{0, term}, {0, term}, {5 * sec, term}, {0, term}, {sec, term}, {sec, term}}, "stop - - - - kill"},
		{"a terminal goes away", true, []at{{0, hup}, {0, hup}, {3 * sec, hup}}, "stop - -"},
		{"saves", true, []at{{0, usr1}, {0, usr1}, {0, intr}, {0, usr1}, {sec / 2, intr}, {sec, intr}}, "save save stop save - kill"},
		{"elastic", false, []at{{0, term}, {0, term}, {2 * sec, term}, {2 * sec, term}}, "leave - stop kill"},
		{"elastic, by hand", true, []at{{0, intr}, {2 * sec, term}, {2 * sec, intr}}, "stop - kill"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Stopper{Terminal: c.terminal, Elastic: strings.HasPrefix(c.name, "elastic")}
			now := time.Unix(0, 0)
			var got []string
			for _, x := range c.signals {
				now = now.Add(x.after)
				got = append(got, map[Request]string{Nothing: "-", Stop: "stop", Kill: "kill", Save: "save", Leave: "leave"}[s.Next(x.sig, now)])
			}
			require.Equal(t, c.want, strings.Join(got, " "))
		})
	}
}

func TestSignalName(t *testing.T) {
	require.Equal(t, "SIGTERM", signalName(syscall.SIGTERM))
	require.Equal(t, fmt.Sprint(syscall.Signal(200)), signalName(syscall.Signal(200)))
}
