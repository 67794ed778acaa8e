//go:build unix

package preflight

import (
	"errors"
	"fmt"
	"time"
)

// ErrClock reports clocks that differ.
var ErrClock = errors.New("preflight: clocks differ")

// Clock compares this host's clock with a peer's, which read remote at some
// moment between sent and received here (Cristian's algorithm). The difference
// is remote minus the middle of the two, known to within half the round trip;
// only what exceeds limit beyond that doubt is a problem.
func Clock(peer string, sent, remote, received time.Time, limit time.Duration) error {
	doubt := received.Sub(sent) / 2
	skew := remote.Sub(sent.Add(doubt))
	if max(skew, -skew) <= limit+doubt {
		return nil
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return &Error{
		Check: "clock", Subject: peer,
		Err:  fmt.Errorf("%w: its clock is %v %s this host's", ErrClock, max(skew, -skew).Round(time.Millisecond), way),
		Mend: "keep both clocks by NTP (chronyc tracking, timedatectl); logs do not line up and certificates may not be accepted",
	}
}
