//go:build !unix

package doctor

func openFiles() Finding {
	return Finding{Status: Note, Name: "open files", Text: "not examined on this system"}
}

func addressSpace() Finding {
	return Finding{Status: Note, Name: "address space", Text: "not examined on this system"}
}

func disk(string) Finding {
	return Finding{Status: Note, Name: "disk", Text: "not examined on this system"}
}
