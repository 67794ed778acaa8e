package agr

import (
	"github.com/agrdist/agrdist/internal/isa"
	"github.com/agrdist/agrdist/optim"
)

// KernelNames lists the kernels that this machine runs.
func KernelNames() []string {
	var names []string
	for _, s := range isa.Supported() {
		names = append(names, s.String())
	}
	return names
}

// PickedKernels is the name of the kernels that NewPass takes now.
func PickedKernels() (string, error) {
	k, err := pickKernels()
	return k.set.String(), err
}

// NewUnfusedPassWith is NewUnfusedPass with the variant of AGR.
func NewUnfusedPassWith(c optim.Config, a *Config, segments []optim.Segment, flatLen int, r optim.Runner) (Pass, error) {
	segments, o, err := build(c, a, segments, flatLen, r)
	if err != nil {
		return nil, err
	}
	return newUnfused(o, a, ownClipOf(c), segments, flatLen, r), nil
}
