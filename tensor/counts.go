package tensor

// Counter is implemented by backends that count what the host asks of their device.
type Counter interface {
	// Count counts from zero from now on.
	Count()
	// Counts is what was asked for since Count.
	Counts() Counts
}

// Counts is what a device was asked to do.
type Counts struct {
	Operations []Operation // by class, then by name
	Launches   int         // of kernels and library calls one by one, outside of graphs
	Graphs     int         // launched
	Nodes      int         // of all launched graphs
	Waits      int         // of the host for the device
}

// Operation is one kind of work: a kernel of this project, a library's call, or copies.
type Operation struct {
	Class string // what it is for: "norm", "convolution"
	Name  string
	Own   bool // a kernel of this project
	Calls int
	// Bytes is what the calls read and write of the device's memory, each element of an
	// operand once for each time that the kernel passes over it. What has one element a
	// channel, a sample or a group is left out, and so is a library's workspace.
	Bytes int64
}
