package suite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Definition is everything that the values of an evaluation are a function of.
type Definition struct {
	Step          int64     `json:"step"`           // of the checkpoint; 0 where it says none
	Weights       string    `json:"weights"`        // ema, raw, or images: nothing was generated
	WeightsDigest string    `json:"weights_digest"` // SHA-256 of what was judged
	Sampler       *Sampler  `json:"sampler,omitempty"`
	Seed          uint64    `json:"seed"`
	Images        int       `json:"images"`
	Network       Network   `json:"network"` // whose features
	Reference     Reference `json:"reference"`
	KID           KID       `json:"kid"`
	HeldOut       *HeldOut  `json:"heldout,omitempty"`
	Device        string    `json:"device"` // devices round differently
}

// Sampler is how images were generated.
type Sampler struct {
	Method   string  `json:"method"`
	Steps    int     `json:"steps"`
	Spacing  string  `json:"spacing"`
	Eta      float64 `json:"eta"`
	Variance string  `json:"variance"`
	Clip     string  `json:"clip"`
	// Guidance is the scale of a conditional model's classifier-free guidance; nil: the
	// model is not conditional.
	Guidance *float64 `json:"guidance,omitempty"`
	// Class is the one class that was generated; nil: rows of each.
	Class *int `json:"class,omitempty"`
}

// Network is the network whose features were taken.
type Network struct {
	Name   string `json:"name"` // the prefix of the metrics; empty: the FID Inception
	Digest string `json:"digest"`
}

// Reference is what the images were compared with.
type Reference struct {
	Name   string `json:"name"`
	Images int    `json:"images"` // 0: a statistics file, which does not say
	Digest string `json:"digest"`
}

// KID is how the kernel distance was estimated.
type KID struct {
	Subsets    int `json:"subsets"`
	SubsetSize int `json:"subset_size"`
}

// HeldOut is how the held-out loss was measured.
type HeldOut struct {
	Images int    `json:"images"`
	Strata int    `json:"strata"`
	Digest string `json:"digest"`
}

// Digest identifies the definition, 16 hexadecimal digits.
func (d Definition) Digest() string {
	b, err := json.Marshal(d)
	if err != nil {
		panic("suite: " + err.Error()) // a field JSON has no form for
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Metric is one number. Deviation is, by the metric: over the splits of the Inception
// Score, over the subsets of KID, or the standard error of the held-out loss.
type Metric struct {
	Value     float64  `json:"value"`
	Deviation *float64 `json:"deviation,omitempty"`
}

// Record is one line of eval.jsonl.
type Record struct {
	Definition
	ID      string            `json:"id"` // Definition.Digest
	Metrics map[string]Metric `json:"metrics"`
	From    string            `json:"from"` // the directory that was read
	// Classifier is the part of the data set's images that the classifier was not
	// trained on and gets right; nil where the features are another network's.
	Classifier *float64  `json:"classifier_accuracy,omitempty"`
	Time       time.Time `json:"time"`
	Seconds    float64   `json:"seconds"`
}

// ErrDamaged says that a line of an eval.jsonl is not what was written.
var ErrDamaged = errors.New("the line is damaged")

// A line ends with a field of its own: 16 hexadecimal digits of the SHA-256 of what
// stands before it.
const (
	sumKey    = `,"sum":"`
	sumDigits = 16
	sumEnd    = `"}`
)

func sumOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:sumDigits/2])
}

// line returns the record as a line of the file, without its newline.
func (r Record) line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	body := b[:len(b)-1] // a struct with fields: it ends with a brace
	return append(body, sumKey+sumOf(body)+sumEnd...), nil
}

// parse reads a line. Those of earlier versions have no sum.
func parse(line []byte) (r Record, err error) {
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n := len(line) - len(sumKey) - sumDigits - len(sumEnd)
	if n >= 0 && bytes.HasPrefix(line[n:], []byte(sumKey)) && string(line[n+len(sumKey):len(line)-len(sumEnd)]) != sumOf(line[:n]) {
		return r, fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return r, nil
}

// ReadRecords reads an eval.jsonl. A file that does not exist has none; a last line
// that was cut off, by a crash, is left out.
func ReadRecords(path string) ([]Record, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("suite: %w", err)
	}
	var out []Record
	for n := 1; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		if !whole {
			break
		}
		r, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("suite: %s, line %d: %w; remove the line, and what it was the result of is evaluated again", path, n, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Find returns the record of a definition.
func Find(records []Record, id string) (Record, bool) {
	for _, r := range records {
		if r.ID == id {
			return r, true
		}
	}
	return Record{}, false
}

// Append adds a record to an eval.jsonl, after the line that a crash cut off, if any.
func Append(path string, r Record) (err error) {
	b, err := r.line()
	if err != nil {
		return fmt.Errorf("suite: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("suite: cannot write the result: %w", err)
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	end, err := wholeLines(f)
	if err != nil {
		return fmt.Errorf("suite: cannot write the result: %w", err)
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("suite: cannot write the result: %w", err)
	}
	if _, err := f.WriteAt(append(b, '\n'), end); err != nil {
		return fmt.Errorf("suite: cannot write the result: %w", err)
	}
	return f.Sync()
}

// wholeLines is the length of a file up to its last newline.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	var b [1]byte
	for end := info.Size(); end > 0; end-- {
		if _, err := f.ReadAt(b[:], end-1); err != nil {
			return 0, err
		}
		if b[0] == '\n' {
			return end, nil
		}
	}
	return 0, nil
}
