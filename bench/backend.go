package bench

import (
	"github.com/agrdist/agrdist/setup"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// newBackend is the host backend of a precision: f32, which empty means, or bf16.
func newBackend(threads int, precision string) (*cpu.Backend, error) {
	c := cpu.Config{Threads: threads}
	if precision != "" {
		var err error
		if c.Precision, err = setup.Precision(precision); err != nil {
			return nil, err
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return cpu.New(c), nil
}
