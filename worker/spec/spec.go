package spec

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/agrdist/agrdist/cluster"
)

// Spec tells a worker process its place and what it trains.
type Spec struct {
	Member      cluster.MemberID
	Node        string
	Slot        int
	RunDir      string
	RunID       string
	Coordinator string   // file with the HOST:PORT of the coordinator, kept up to date
	Advertised  string   // address of this node, for listeners on all interfaces
	Secrets     [][]byte // of the run; the first is in use
	Executable  string   // SHA-256 of the program; empty in a run of one node, whose processes are all this one
	Config      string   // the resolved configuration, YAML
	// AllowOtherBits lets the run continue a checkpoint that other kernels computed.
	AllowOtherBits bool
	// MemoryFD is the file in which the agent holds copies of the state; 0: none.
	MemoryFD int
	// SecretsFD is the pipe on which the agent tells of other secrets, while the worker
	// runs: see ReadSecrets. 0: there is none.
	SecretsFD int
	// Fresh says that this node was told to start the run from scratch.
	Fresh bool
}

// Encode returns the spec as bytes for Read. They are not JSON: paths may hold bytes
// that are not UTF-8.
func (s Spec) Encode() ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return nil, fmt.Errorf("worker spec: %w", err)
	}
	return b.Bytes(), nil
}

// maxSpec bounds an encoded spec, in bytes.
const maxSpec = 16 << 20

// Read reads an encoded spec.
func Read(r io.Reader) (Spec, error) {
	var s Spec
	b, err := io.ReadAll(io.LimitReader(r, maxSpec))
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&s)
	}
	if err != nil {
		return Spec{}, fmt.Errorf("the worker's spec is damaged: %w", err)
	}
	return s, nil
}

// FindCoordinator reads where the coordinator is now.
func (s Spec) FindCoordinator(context.Context) (string, error) {
	text, err := os.ReadFile(s.Coordinator)
	if err != nil {
		return "", fmt.Errorf("read the coordinator's address: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Reachable replaces an unspecified host of a bound address by the host of an
// advertised address, HOST:PORT both.
func Reachable(bound, advertised string) (string, error) {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return "", fmt.Errorf("bound address %q: %w", bound, err)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(advertised); err != nil {
			return "", fmt.Errorf("advertised address %q: %w", advertised, err)
		}
	}
	return net.JoinHostPort(host, port), nil
}
