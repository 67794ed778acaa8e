package bench

import (
	"fmt"

	"github.com/agrdist/agrdist/tensor"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// newBackend is the host backend of a precision: f32 (or empty) or bf16.
func newBackend(threads int, precision string) (*cpu.Backend, error) {
	c := cpu.Config{Threads: threads}
	switch precision {
	case "", "f32":
	case "bf16":
		c.Precision = tensor.BF16
	default:
		return nil, fmt.Errorf("precision is %q; choose f32 or bf16", precision)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return cpu.New(c), nil
}
