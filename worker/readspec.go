package worker

import (
	"errors"

	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/worker/spec"
)

// ErrNoSpec says that no agent started this process.
var ErrNoSpec = errors.New("worker processes are started by agrdist run, which tells them what to do")

// readSpec reads the spec that the agent gave this process. It can be read once.
func readSpec() (spec.Spec, error) {
	in, err := supervise.Input()
	if err != nil {
		return spec.Spec{}, ErrNoSpec
	}
	s, err := spec.Read(in)
	return s, errors.Join(err, in.Close())
}
