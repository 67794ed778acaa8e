//go:build !linux

package doctor

func processorModel() string { return "" }

func memory() Finding {
	return Finding{Status: Note, Name: "memory", Text: "not examined on this system"}
}

func sharedMemory() Finding {
	return Finding{Status: Note, Name: "shared memory", Text: "only on Linux; workers of one host use TCP"}
}
