package agr

// KernelNames lists the kernels that this machine runs.
func KernelNames() []string {
	names := []string{"go"}
	for _, k := range vectorKernels() {
		names = append(names, k.name)
	}
	return names
}
