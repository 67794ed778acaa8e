package spec

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/agrdist/agrdist/cluster"
)

// Variable is the environment variable in which a worker finds its Spec. Only
// processes of the same user can read it.
const Variable = "AGRDIST_WORKER_SPEC"

// Spec tells a worker process its place and what it trains.
type Spec struct {
	Member      cluster.MemberID
	Node        string
	Slot        int
	RunDir      string
	RunID       string
	Coordinator string // file with the HOST:PORT of the coordinator, kept up to date
	Advertised  string // address of this node, for listeners on all interfaces
	Secret      []byte
	Config      string // the resolved configuration, YAML
}

// Environment returns the variable that carries the spec. Its text is not JSON:
// paths may hold bytes that are not UTF-8.
func (s Spec) Environment() (string, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return "", fmt.Errorf("worker spec: %w", err)
	}
	return Variable + "=" + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// Read reads the spec of this process and takes it out of the environment.
func Read() (Spec, error) {
	text, ok := os.LookupEnv(Variable)
	if !ok {
		return Spec{}, fmt.Errorf("%s is not set: worker processes are started by agrdist run", Variable)
	}
	if err := os.Unsetenv(Variable); err != nil {
		return Spec{}, fmt.Errorf("worker spec: %w", err)
	}
	var s Spec
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(b)).Decode(&s)
	}
	if err != nil {
		return Spec{}, fmt.Errorf("%s is damaged: %w", Variable, err)
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
