package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Batch is what a Reader found since its last read.
type Batch struct {
	Events []Event
	// Restarted says that the file was replaced or truncated: Events begin a new
	// history, and what was read before belongs to an earlier run.
	Restarted bool
	// More says that the file has more already: Read again.
	More bool
}

// Reader reads a file of events while it is written. It survives what happens to
// such files: one that does not exist yet, a last line that is not complete yet, a
// line that a crash cut short, a file that is moved aside and begun again. It is
// not safe for concurrent use.
type Reader struct {
	path    string
	f       *os.File
	offset  int64  // of the next byte to read
	pending []byte // the beginning of a line whose end is not written yet
	skipped int
	atOnce  int64 // bytes of a Read
}

// atOnce bounds what a Read takes: some thousands of events.
const atOnce = 1 << 20

// OpenReader returns a reader of the file at path, which need not exist yet.
func OpenReader(path string) *Reader { return &Reader{path: path, atOnce: atOnce} }

// Skipped is the number of lines that were no events: cut short by a crash, or not
// written by agrdist.
func (r *Reader) Skipped() int { return r.skipped }

// Read returns the events that were appended since the last call, of a long file the
// next part (see Batch.More); none where the file does not exist.
func (r *Reader) Read() (Batch, error) {
	var b Batch
	current, err := os.Stat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		current = nil
	case err != nil:
		return b, fmt.Errorf("metrics: read events: %w", err)
	}
	if r.f != nil {
		own, err := r.f.Stat()
		if err != nil {
			return b, fmt.Errorf("metrics: read events: %w", err)
		}
		if current == nil || !os.SameFile(own, current) || own.Size() < r.offset {
			// What the old file still got before it was moved is history of the
			// old run; nobody asks for it any more.
			if err := r.Close(); err != nil {
				return b, err
			}
			b.Restarted = true
		}
	}
	if current == nil {
		return b, nil
	}
	if r.f == nil {
		if r.f, err = os.Open(r.path); err != nil {
			return b, fmt.Errorf("metrics: read events: %w", err)
		}
	}
	data, err := io.ReadAll(io.NewSectionReader(r.f, r.offset, r.atOnce))
	if err != nil {
		return b, fmt.Errorf("metrics: read %s: %w", r.path, err)
	}
	r.offset += int64(len(data))
	r.parse(data, &b)
	b.More = int64(len(data)) == r.atOnce
	return b, nil
}

// parse appends the events of complete lines.
func (r *Reader) parse(data []byte, b *Batch) {
	for {
		line, rest, complete := bytes.Cut(data, []byte{'\n'})
		if !complete {
			r.pending = append(r.pending, line...)
			return
		}
		if len(r.pending) > 0 {
			line = append(r.pending, line...)
			r.pending = nil
		}
		data = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil || e.Event == "" {
			r.skipped++
			continue
		}
		b.Events = append(b.Events, e)
	}
}

// Close closes the file; a later Read opens it again from the beginning.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f, r.offset, r.pending = nil, 0, nil
	return err
}

// History reads all events of the file at path.
func History(path string) ([]Event, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("metrics: read events: %w", err)
	}
	r := OpenReader(path)
	var all []Event
	for {
		b, err := r.Read()
		if b.Restarted {
			all = nil
		}
		all = append(all, b.Events...)
		if err != nil || !b.More {
			return all, errors.Join(err, r.Close())
		}
	}
}

// Series collects events into the history that counts. After a crash, steps since
// the last checkpoint are taken again and appear twice in the file; the later ones
// count, and the earlier ones are dropped as soon as a run starts behind them.
type Series struct {
	events []Event
	top    int64 // largest step of the events
}

// Add takes events in the order of the file.
func (s *Series) Add(events ...Event) {
	for _, e := range events {
		if e.Step <= s.top && (e.Event == EventStart || e.Event == EventStep) {
			s.events = slices.DeleteFunc(slices.Clone(s.events), func(old Event) bool { return Replaced(old.Event, old.Step, e) })
			s.top = 0
			for i := range s.events {
				s.top = max(s.top, s.events[i].Step)
			}
		}
		s.events = append(s.events, e)
		s.top = max(s.top, e.Step)
	}
}

// Replaced reports whether an event that was told at a step is told again from e on.
func Replaced(event string, step int64, e Event) bool {
	switch e.Event {
	case EventStart:
		return step > e.Step
	case EventStep:
		return (event == EventStep || event == EventSkip) && step >= e.Step
	}
	return false
}

// Events returns the history. The caller must not change it; a later Add does not
// change it either.
func (s *Series) Events() []Event { return slices.Clip(s.events) }

// Reset forgets everything.
func (s *Series) Reset() { *s = Series{} }
