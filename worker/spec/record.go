package spec

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/agrdist/agrdist/internal/text"
)

// Record is one line on a worker's record pipe: exactly one field is set.
type Record struct {
	Notice  *Notice  `json:"notice,omitempty"`
	Written *Written `json:"written,omitempty"`
	Saved   *Saved   `json:"saved,omitempty"`
	End     *End     `json:"end,omitempty"`
}

// Notice is what a person should read while the run is under way.
type Notice struct {
	Level string `json:"level"` // "WARN" or "ERROR"
	Text  string `json:"text"`
}

// Written says that this worker wrote the checkpoint of a step, the first of several that
// did: it is verified, and has its name in the run's directory.
type Written struct {
	Step int64 `json:"step"`
}

// Saved is the word that the state a run ends or stops with is on a disk: written,
// synced, read back and compared, and renamed. Every rank hears it from the rank that
// wrote and passes it on to its own agent before it leaves.
type Saved struct {
	Step int64  `json:"step"`
	Node string `json:"node"`
	Path string `json:"path"` // on that node
	// Also are the other nodes on whose disks it is.
	Also []string `json:"also,omitempty"`
}

// End is the last record of a process that ends by itself: why it ends with which
// exit code. A process that was killed leaves none.
type End struct {
	Code int `json:"code"`
	// Source is the key, file or device that was refused; only with the code of a
	// configuration that cannot work, and then it may still be empty.
	Source string `json:"source,omitempty"`
	// Text is the reason, one line; empty where nothing went wrong.
	Text string `json:"text,omitempty"`
}

// Write writes the record as one line. Text that is not UTF-8 is made valid on the
// way.
func (r Record) Write(w io.Writer) error {
	line, err := json.Marshal(r.valid())
	if err != nil {
		return fmt.Errorf("worker record: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("worker record: %w", err)
	}
	return nil
}

func (r Record) valid() Record {
	if n := r.Notice; n != nil {
		r.Notice = &Notice{n.Level, text.Valid(n.Text)}
	}
	if e := r.End; e != nil {
		r.End = &End{e.Code, text.Valid(e.Source), text.Valid(e.Text)}
	}
	if s := r.Saved; s != nil {
		also := make([]string, len(s.Also))
		for i, n := range s.Also {
			also[i] = text.Valid(n)
		}
		r.Saved = &Saved{s.Step, text.Valid(s.Node), text.Valid(s.Path), also}
	}
	return r
}

// ParseRecord reads a line that Write wrote.
func ParseRecord(line []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, fmt.Errorf("worker record: %w", err)
	}
	n := 0
	for _, set := range []bool{r.Notice != nil, r.Written != nil, r.Saved != nil, r.End != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return Record{}, fmt.Errorf("worker record: %d of notice, written, saved and end are set, want one: %.100q", n, line)
	}
	return r, nil
}
