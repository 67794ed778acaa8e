// Command neon writes the arm64 kernels of the host backend, one file for each group of
// them:
//
//	go run ./neon -group tile -out tile_arm64.s
//
// They round as the AVX2 kernels do: the same order of every sum, the same fused
// multiply-adds, eight lanes in every reduction, as two vectors of four. Their Go
// declarations are written by hand, in kernels_arm64.go.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/internal/neon"
)

// lanes is the number of floats in a vector, bytes its size.
const lanes, bytes = 4, 16

// fn is a function being written.
type fn struct{ *neon.Func }

func begin(name, doc string, params ...string) fn {
	return fn{neon.NewFunc(name+"NEON", doc, params...)}
}

// groups are the files' contents, by name.
var groups = map[string]func() (data string, all []fn){
	"tile": func() (string, []fn) { return "", []fn{nn(), tn()} },
	"bf16": func() (string, []fn) { return "", []fn{nnBF16(), tnBF16(), pair(), pairRows(), quads()} },
	"vector": func() (string, []fn) {
		return maskTables(), slices.Concat(vectors(), reductions(), columns(), []fn{dropout(), maskBits(), transpose4()}, softmax())
	},
	"patch": func() (string, []fn) { return factorTable(), patches() },
}

func main() {
	group := flag.String("group", "", "which kernels to write")
	out := flag.String("out", "", "the file to write")
	flag.Parse()
	if _, ok := groups[*group]; !ok || *out == "" {
		fmt.Fprintf(os.Stderr, "neon: want -out FILE and a -group of kernels, not %q\n", *group)
		os.Exit(2)
	}
	if err := os.WriteFile(*out, []byte(text(*group)), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "neon:", err)
		os.Exit(1)
	}
}

// text is the file of a group.
func text(group string) string {
	data, all := groups[group]()
	parts := []string{neon.Header("go run ./neon -group " + group), data}
	for _, f := range all {
		parts = append(parts, f.Text())
	}
	return strings.Join(parts, "")
}
