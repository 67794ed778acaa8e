package agent

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/agrdist/agrdist/cluster"
)

// SpecVariable is the environment variable in which a worker finds its Spec. Only
// processes of the same user can read it.
const SpecVariable = "AGRDIST_WORKER_SPEC"

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

// Environment returns the variable that carries the spec.
func (s Spec) Environment() (string, error) {
	b, err := json.Marshal(s) //nolint:gosec // the secret goes to a child process of the same user, not to a log
	if err != nil {
		return "", fmt.Errorf("agent: worker spec: %w", err)
	}
	return SpecVariable + "=" + string(b), nil
}

// ReadSpec reads the spec of this process and takes it out of the environment.
func ReadSpec() (Spec, error) {
	text, ok := os.LookupEnv(SpecVariable)
	if !ok {
		return Spec{}, fmt.Errorf("agent: %s is not set: worker processes are started by agrdist run", SpecVariable)
	}
	if err := os.Unsetenv(SpecVariable); err != nil {
		return Spec{}, fmt.Errorf("agent: worker spec: %w", err)
	}
	var s Spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Spec{}, fmt.Errorf("agent: %s: %w", SpecVariable, err)
	}
	return s, nil
}
