package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// runAs makes the test binary the program itself. Worker processes inherit it:
// agrdist starts them from its own file, which here is the test binary.
const runAs = "RUN_AS_AGRDIST"

// scratch holds what outlives a test: the run that all others are compared with.
var scratch string

func TestMain(m *testing.M) {
	if os.Getenv(runAs) != "" {
		main()
	}
	flag.Parse()
	if !given("test.parallel") {
		// These tests wait for other processes far more than they compute.
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	var err error
	if scratch, err = os.MkdirTemp("", "agrdist-test-"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(scratch); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
