package worker

import (
	"errors"

	"github.com/agrdist/agrdist/cluster/supervise"
	"github.com/agrdist/agrdist/worker/spec"
)

// ReadSpec reads the spec that the agent gave this process. It can be read once.
func ReadSpec() (spec.Spec, error) {
	in, err := supervise.Input()
	if err != nil {
		return spec.Spec{}, errors.New("worker processes are started by agrdist run, which tells them what to do")
	}
	s, err := spec.Read(in)
	return s, errors.Join(err, in.Close())
}
