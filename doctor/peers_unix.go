//go:build unix

package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/agrdist/agrdist/cluster/preflight"
)

// Peers connects to the nodes that a run is to join, HOST:PORT each, and hangs up: one
// finding for each that does not answer, or one for all that do.
func Peers(ctx context.Context, addrs []string) []Finding {
	if len(addrs) == 0 {
		return nil
	}
	err := preflight.DialAll(ctx, addrs, preflight.DialConfig{})
	if err == nil {
		return []Finding{{Status: OK, Name: "peers", Text: strings.Join(addrs, ", ") + " answer"}}
	}
	problems := preflight.Problems(err)
	if len(problems) == 0 {
		return []Finding{{Status: Fail, Name: "peers", Text: err.Error(), Fix: "give each as HOST:PORT"}}
	}
	var found []Finding
	for _, p := range problems {
		f := Finding{Status: Fail, Name: "peer " + p.Subject, Text: p.Err.Error(), Fix: p.Fix}
		if errors.Is(p.Err, context.DeadlineExceeded) {
			f.Text = "no answer in time"
		}
		found = append(found, f)
	}
	return found
}
