package agr

import "github.com/agrdist/agrdist/internal/isa"

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
