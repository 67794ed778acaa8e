// Command deadexports lists the exported functions, types, constants, variables and
// methods of this module that nobody calls but the tests of their own package. It fails
// if there are any.
//
// Internal packages are not looked at, nor what docs/api.md names: that is what the
// module offers as a library. A method counts as called if its type implements an
// interface that asks for it. Files that this build leaves out (tags, other systems) and
// tests of other packages are read without types: there a mention of the name is a call.
//
//	go run ./hack/deadexports
package main

import (
	"fmt"
	"os"
)

const api = "docs/api.md"

func main() {
	dead, err := find(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "deadexports:", err)
		os.Exit(2)
	}
	for _, d := range dead {
		fmt.Fprintf(os.Stderr, "%s: %s has no caller but its own tests: unexport or remove it, or offer it in %s\n", d.at, d.name, api)
	}
	if len(dead) > 0 {
		os.Exit(1)
	}
}
