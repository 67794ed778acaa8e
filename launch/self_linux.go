package launch

// self is the file of this program. This name leads to the file that is executing,
// even if it was removed or replaced in the meantime: a worker that is started late in
// a run is the same program as the others.
func self() (string, error) { return "/proc/self/exe", nil }
