package launch

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Request is what a signal asks for.
type Request int

// Requests.
const (
	Nothing Request = iota // a repetition of what was asked before
	Stop                   // save a checkpoint on all nodes and end
	Kill                   // end at once
	Save                   // write a checkpoint now and continue
	Leave                  // leave a run that continues on other nodes
	Dump                   // write what the workers did last to RUN/debug, and continue
)

// repeatWithin is how long after a request further signals only repeat it. Process
// managers send a signal to a process and then to its group, and a terminal that goes
// away sends several: none of that is a person's second thought.
const repeatWithin = time.Second

// Stopper makes requests of signals. The first SIGINT, SIGTERM or SIGHUP is a Stop.
// Within a second any number of them only repeats it. Later ones are requests of
// their own: a second SIGINT that a person typed is a Kill, and so is any third
// request. SIGUSR1 is always a Save, and SIGQUIT (Ctrl-\\) a Dump. In an elastic run the first SIGTERM is a Leave,
// and a second one is the Stop.
type Stopper struct {
	Terminal bool // an interrupt comes from a keyboard
	Elastic  bool // the run can continue without this node

	left  bool      // the first was a Leave
	asked int       // requests to stop so far
	last  time.Time // the newest of them
}

// Next takes the next signal.
func (s *Stopper) Next(sig os.Signal, now time.Time) Request {
	if sig == syscall.SIGUSR1 {
		return Save
	}
	if sig == syscall.SIGQUIT {
		return Dump
	}
	if s.asked > 0 && now.Sub(s.last) <= repeatWithin {
		return Nothing
	}
	s.asked++
	s.last = now
	switch {
	case s.asked == 1 && s.Elastic && sig == syscall.SIGTERM:
		s.left = true
		return Leave
	case s.asked == 1, s.asked == 2 && s.left && sig == syscall.SIGTERM:
		return Stop
	case s.asked >= 3, s.Terminal && sig == os.Interrupt:
		return Kill
	}
	return Nothing
}

// forwardSignals passes on to the agent what counts, and tells people what will
// happen. The returned function ends it.
func (r *run) forwardSignals() (stop <-chan os.Signal, end func()) {
	out := make(chan os.Signal, 4) // a stop, a kill, and saves that nobody has taken yet
	done, ended := make(chan struct{}), make(chan struct{})
	// Read here: the agent may adopt another configuration while the goroutine runs.
	elastic := r.cfg.Cluster.Elastic()
	go func() {
		defer close(ended)
		s := Stopper{Terminal: r.Terminal, Elastic: elastic}
		for {
			select {
			case <-done:
				return
			case sig := <-r.Signals:
				r.forward(s.Next(sig, time.Now()), sig, out)
			case sig := <-r.page.requests:
				if sig == syscall.SIGUSR1 || s.asked == 0 { // asking the page twice changes nothing
					r.forward(s.Next(sig, time.Now()), sig, out)
				}
			}
		}
	}()
	return out, func() {
		close(done)
		<-ended
	}
}

// forward passes a request on as the agent takes it: SIGUSR1 is a save, the first
// other signal a stop, the second a kill.
func (r *run) forward(q Request, sig os.Signal, out chan<- os.Signal) {
	switch q {
	case Stop:
		r.stopped.Store(true)
		more := "two more signals, each after a second, end"
		if r.Terminal {
			more = "Ctrl-C again after a second ends"
		}
		r.notice(fmt.Sprintf("%s: saving a checkpoint and stopping; %s the run at once, without it", signalName(sig), more))
	case Leave:
		r.notice(fmt.Sprintf("%s: this node leaves the run if enough others stay, else the run saves and stops; a second one after more than a second stops the whole run", signalName(sig)))
	case Save:
		if s := r.last.Load(); s == nil || s.Step < 0 {
			r.notice("there is nothing to save yet: no step was made")
			return
		}
		r.notice(fmt.Sprintf("%s: writing a checkpoint after this step; training continues", signalName(sig)))
	case Dump:
		r.notice(fmt.Sprintf("%s: writing to %s where each worker is; training continues. agrdist debug explain reads it", signalName(sig), r.dir.Debug()))
	case Kill:
	case Nothing:
		return
	}
	select {
	case out <- sig:
	default: // the agent is busy with what it was asked for before
	}
}

// signalName is SIGTERM where the signal itself says "terminated".
func signalName(s os.Signal) string {
	if n, ok := s.(syscall.Signal); ok && unix.SignalName(n) != "" {
		return unix.SignalName(n)
	}
	return s.String()
}
