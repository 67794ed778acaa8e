package doctor

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/agrdist/agrdist/tensor/cpu"
)

// Status is how a finding bears on a run.
type Status string

// The kinds of findings.
const (
	OK   Status = "ok"
	Note Status = "note" // something will be slower, or is not there
	Fail Status = "fail" // a run on this machine fails
)

// Finding is one line of the examination.
type Finding struct {
	Status Status `json:"status"`
	Name   string `json:"name"`
	Text   string `json:"text"`
	Fix    string `json:"fix,omitempty"` // what to do about it
}

// Examine looks at everything. It takes less than a second where no driver is
// slow to start.
func Examine(ctx context.Context) []Finding {
	all := []Finding{processor(), threads(), memory(), sharedMemory(), openFiles(), addressSpace(), disk("."), loopback(ctx), network()}
	return append(all, gpus()...)
}

// Blockers looks at what makes a run on this machine hang or fail in a way that says
// nothing: no loopback, too few open files. It takes milliseconds, or two seconds
// where loopback is down, and returns the failures alone.
func Blockers(ctx context.Context) []Finding {
	var failed []Finding
	for _, f := range []Finding{openFiles(), loopback(ctx)} {
		if f.Status == Fail {
			failed = append(failed, f)
		}
	}
	return failed
}

// Failed tells whether a run would fail.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Status == Fail {
			return true
		}
	}
	return false
}

func processor() Finding {
	f := Finding{Status: OK, Name: "processor"}
	c := cpu.DefaultConfig()
	if err := c.Validate(); err != nil {
		f.Status, f.Text, f.Fix = Fail, err.Error(), "unset AGRDIST_CPU"
		return f
	}
	be := cpu.New(c)
	defer func() { _ = be.Close() }() // ends threads
	model := processorModel()
	if model == "" {
		model = runtime.GOARCH
	}
	f.Text = fmt.Sprintf("%s; kernels %s", model, strings.TrimPrefix(be.Name(), "cpu/"))
	if be.Name() == "cpu/go" {
		f.Status = Note
		f.Fix = "the plain Go kernels are several times slower than those for AVX2 and AVX-512, which this processor or AGRDIST_CPU does not give"
	}
	return f
}

func threads() Finding {
	seen, use := runtime.NumCPU(), runtime.GOMAXPROCS(0)
	f := Finding{Status: OK, Name: "cores", Text: fmt.Sprintf("%d", use)}
	if use < seen {
		f.Text = fmt.Sprintf("%d of the %d that this process may run on, by its CPU limit or GOMAXPROCS", use, seen)
	}
	return f
}

// loopbackTimeout is far above what a connection within a machine takes.
const loopbackTimeout = 2 * time.Second

func loopback(ctx context.Context) Finding {
	if err := tryLoopback(ctx); err != nil {
		return Finding{
			Status: Fail, Name: "loopback", Text: "no connection to 127.0.0.1: " + err.Error(),
			Fix: "the workers of a machine talk over loopback: bring it up (ip link set lo up), or allow this container to open sockets",
		}
	}
	return Finding{Status: OK, Name: "loopback", Text: "127.0.0.1 takes connections"}
}

// tryLoopback sends a byte to itself: listening works on an interface that is down.
func tryLoopback(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loopbackTimeout)
	defer cancel()
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() // nothing depends on it
	go func() {
		peer, err := l.Accept()
		if err != nil {
			return // closed
		}
		_, _ = peer.Write([]byte{1}) // what it did not send is missing at the other end
		_ = peer.Close()
	}()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing depends on it
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// network lists the addresses by which other machines could reach this one.
func network() Finding {
	f := Finding{Status: OK, Name: "network"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return Finding{Status: Note, Name: f.Name, Text: err.Error()}
	}
	var reachable []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			reachable = append(reachable, n.IP.String())
		}
	}
	if len(reachable) == 0 {
		f.Status, f.Text = Note, "no address but loopback: runs stay on this machine"
		return f
	}
	f.Text = strings.Join(reachable, ", ") + "; runs on several machines need cluster.secret"
	return f
}

func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

// size is a number of bytes in the unit that a person would use.
func size(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return gib(n)
}
