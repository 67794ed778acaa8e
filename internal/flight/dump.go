package flight

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// Dump is the end of one worker's recording, as a file.
type Dump struct {
	Node    string    `json:"node"`
	Slot    int       `json:"slot"`
	PID     int       `json:"pid"`
	Written time.Time `json:"written"`
	Reason  string    `json:"reason"`          // why the dump was made
	Ended   string    `json:"ended,omitempty"` // how the process ended; empty: it lives
	Records []Record  `json:"records"`
}

// Seat is NODE/SLOT.
func (d Dump) Seat() string { return fmt.Sprintf("%s/%d", d.Node, d.Slot) }

// Keep is how many dumps a node keeps.
const Keep = 64

const prefix = "flight-"

// WriteDump writes a dump into a directory, which it makes, and removes the node's
// oldest ones.
func WriteDump(dir string, d Dump) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("flight: %w", err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("flight: %w", err)
	}
	node := prefix + url.PathEscape(d.Node) + "-"
	name := fmt.Sprintf("%s%013d-%d-%d.json", node, d.Written.UnixMilli(), d.Slot, d.PID)
	if err := renameio.WriteFile(filepath.Join(dir, name), b, 0o644, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("flight: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("flight: %w", err)
	}
	var own []string
	for _, e := range entries { // by name, so by time
		if strings.HasPrefix(e.Name(), "."+node) { // of an agent that was killed as it wrote
			_ = os.Remove(filepath.Join(dir, e.Name()))
			continue
		}
		rest, ok := strings.CutPrefix(e.Name(), node)
		if ok && strings.Count(rest, "-") == 2 {
			own = append(own, e.Name())
		}
	}
	for len(own) > Keep {
		if err := os.Remove(filepath.Join(dir, own[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("flight: %w", err)
		}
		own = own[1:]
	}
	return nil
}

// maxDump bounds a dump that is read, in bytes.
const maxDump = 64 << 20

// ReadDumps reads the dumps of a directory, by time. Files that are no dumps are passed
// over.
func ReadDumps(dir string) ([]Dump, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("flight: %w", err)
	}
	var out []Dump
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() > maxDump {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		if d, err := parseDump(b); err == nil {
			out = append(out, d)
		}
	}
	slices.SortStableFunc(out, func(a, b Dump) int { return cmp.Or(a.Written.Compare(b.Written), cmp.Compare(a.Seat(), b.Seat())) })
	return out, nil
}

func parseDump(b []byte) (Dump, error) {
	var d Dump
	if err := json.Unmarshal(b, &d); err != nil {
		return Dump{}, fmt.Errorf("flight: %w", err)
	}
	if d.Node == "" {
		return Dump{}, errors.New("flight: no dump: it names no node")
	}
	return d, nil
}

// wire is a Record in JSON.
type wire struct {
	Time       time.Time `json:"t"`
	Kind       string    `json:"kind"`
	Generation uint64    `json:"generation"`
	Rank       int       `json:"rank"`
	Peer       int       `json:"peer,omitempty"`
	Step       int64     `json:"step"`
	Number     uint32    `json:"op,omitempty"`
	Bucket     int       `json:"bucket,omitempty"`
	Name       string    `json:"name,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{r.Time, r.Kind.String(), r.Generation, r.Rank, r.Peer, r.Step, r.Number, r.Bucket, r.Name}) //nolint:wrapcheck // json's own interface
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Record) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err //nolint:wrapcheck // json's own interface
	}
	k := slices.Index(kinds[:], w.Kind)
	if k <= 0 {
		return fmt.Errorf("flight: a record of kind %q", w.Kind)
	}
	*r = Record{w.Time, Kind(k), w.Generation, w.Rank, w.Peer, w.Step, w.Number, w.Bucket, w.Name}
	return nil
}
