package worker

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/worker/spec"
)

// Main is all that a worker process does: it reads its spec, trains until the run ends,
// and returns the exit code. Where no agent started the process it is ErrNoSpec. SIGTERM asks the run to save and end, SIGUSR1 for a
// checkpoint. The log goes to stderr; what a person should read and why the process
// ends goes to the record pipe as well.
func Main(ctx context.Context) (int, error) {
	place, err := readSpec()
	if err != nil {
		return cluster.ExitFailed, err
	}
	// A terminal's Ctrl-C is for the agent, which tells the workers; they lead groups
	// of their own and do not see it.
	asked, forget := listen()
	defer forget()
	supervise.WatchParent(os.Stdin, func() { os.Exit(cluster.ExitFailed) })
	records := recordsTo(supervise.Records())
	log := slog.New(&noticeHandler{
		Handler: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}), records: records,
	})
	setProcessName("agrdist")
	code, err := run(ctx, asked, place, log, records)
	end := &spec.End{Code: code}
	if err != nil {
		end.Source, end.Text = sourceOf(err), err.Error()
	}
	records.write(spec.Record{End: end})
	return code, err
}

// requests are what a worker may be asked for.
type requests struct {
	stop chan struct{} // closed by the first request to save and end
	save chan struct{} // a checkpoint is wanted
}

// listen makes requests of signals, until it is told to forget them.
func listen() (asked requests, forget func()) {
	asked = requests{make(chan struct{}), make(chan struct{}, 1)}
	signals, done := make(chan os.Signal, 4), make(chan struct{})
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	go func() {
		stopping := false
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				switch {
				case s == syscall.SIGUSR1:
					select {
					case asked.save <- struct{}{}:
					default: // one is wanted already
					}
				case !stopping:
					stopping = true
					close(asked.stop)
				}
			}
		}
	}()
	return asked, func() {
		signal.Stop(signals)
		close(done)
	}
}

// recordWriter passes records on to the agent; without a pipe it drops them.
type recordWriter struct{ to io.Writer }

func recordsTo(f *os.File) *recordWriter {
	if f == nil {
		return &recordWriter{io.Discard}
	}
	return &recordWriter{f}
}

// write writes one record in one system call, so that records of several goroutines do
// not mix. An agent that is gone has nobody left to tell.
func (w *recordWriter) write(r spec.Record) { _ = r.Write(w.to) }
