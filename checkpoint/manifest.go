package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	manifestFormat  = "agrdist-checkpoint"
	manifestVersion = 1
	documentLimit   = 64 << 20
)

// The files of a checkpoint.
const (
	ManifestFile  = "manifest.json"
	ModelFile     = "model.safetensors"
	EMAFile       = "ema.safetensors"
	OptimizerFile = "optimizer.safetensors"
	ConfigFile    = "config.yaml"
	UNetFile      = "unet_config.json"
	SchedulerFile = "scheduler_config.json"
)

// The order in which the files are written and listed.
var fileOrder = []string{ConfigFile, UNetFile, SchedulerFile, ModelFile, EMAFile, OptimizerFile}

// Manifest describes a checkpoint; it is written last. Its text has one form
// only, and carries its own checksum, so a change of any bit shows.
type Manifest struct {
	Format         string            `json:"format"`
	Version        int               `json:"format_version"`
	Step           int64             `json:"step"`
	Updates        int64             `json:"updates"`
	Seed           uint64            `json:"seed"`
	ConfigHash     string            `json:"config_hash"`
	DataCursor     uint64            `json:"data_cursor"`
	HasEMA         bool              `json:"has_ema"`
	Created        time.Time         `json:"created"`
	AgrdistVersion string            `json:"agrdist_version"`
	Meta           map[string]string `json:"meta,omitempty"`
	ModelDigest    string            `json:"model_digest"`
	Files          []FileInfo        `json:"files"`
	Checksum       string            `json:"manifest_sha256"` // of this text with "" here
}

// FileInfo describes one file of a checkpoint.
type FileInfo struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	Tensors int    `json:"tensors,omitempty"`
}

// File returns the description of a file, or false.
func (m *Manifest) File(name string) (FileInfo, bool) {
	i := slices.IndexFunc(m.Files, func(f FileInfo) bool { return f.Name == name })
	if i < 0 {
		return FileInfo{}, false
	}
	return m.Files[i], true
}

// Bytes returns the size of all files together, without the manifest.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

func (m Manifest) encode() ([]byte, error) {
	m.Checksum = ""
	text, err := m.text()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.Checksum = hex.EncodeToString(sum[:])
	return m.text()
}

func (m Manifest) text() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// ManifestLimit is the size of a manifest that is read, at most, in bytes.
const ManifestLimit = 16 << 20

// ParseManifest reads the text of a manifest. A change of any bit of it is an error.
func ParseManifest(text []byte) (*Manifest, error) { return decodeManifest(text) }

func decodeManifest(text []byte) (*Manifest, error) {
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"format_version"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("%s: not valid JSON: %w", ManifestFile, err)
	}
	if head.Format != manifestFormat {
		return nil, fmt.Errorf("%s: format is %q, not %q", ManifestFile, head.Format, manifestFormat)
	}
	if head.Version > manifestVersion {
		return nil, fmt.Errorf("%s: format_version is %d, this build reads up to %d: use a newer agrdist", ManifestFile, head.Version, manifestVersion)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, text) {
		return nil, fmt.Errorf("%s: its own checksum does not match: the file was changed or damaged", ManifestFile)
	}
	return &m, m.check()
}

// check looks for what a writer cannot have meant, whoever it was.
func (m *Manifest) check() error {
	at := -1
	for _, f := range m.Files {
		i := slices.Index(fileOrder, f.Name)
		if i < 0 {
			return fmt.Errorf("%s: lists %q, which is no file of a checkpoint", ManifestFile, f.Name)
		}
		if i <= at {
			return fmt.Errorf("%s: lists %q out of order", ManifestFile, f.Name)
		}
		at = i
	}
	if m.Version < 1 || m.Step < 0 || m.Updates < 0 || m.Updates > m.Step {
		return fmt.Errorf("%s: format_version %d, step %d, updates %d make no sense", ManifestFile, m.Version, m.Step, m.Updates)
	}
	for _, name := range []string{ModelFile, OptimizerFile} {
		if _, ok := m.File(name); !ok {
			return fmt.Errorf("%s: does not list %s", ManifestFile, name)
		}
	}
	if _, ok := m.File(EMAFile); ok != m.HasEMA {
		return fmt.Errorf("%s: has_ema is %t, but %s is listed: %t", ManifestFile, m.HasEMA, EMAFile, ok)
	}
	return nil
}

// DirName returns the name of the directory of a step: "step-600".
func DirName(step int64) string { return "step-" + strconv.FormatInt(step, 10) }

// ParseDirName is the inverse of DirName.
func ParseDirName(name string) (step int64, ok bool) { return parseStep(name) }

// parseStep is the inverse of DirName; "step-07" and "step-+7" are no steps.
func parseStep(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n >= 0 && DirName(n) == name
}

var errNoManifest = errors.New("no manifest.json: it was not written to its end")
