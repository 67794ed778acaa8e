package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/agrdist/agrdist/internal/leaktest"
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
	leaktest.Begin()
	var err error
	if scratch, err = os.MkdirTemp("", "agrdist-test-"); err != nil {
		panic(err)
	}
	leaktest.Main(m, func() error { return os.RemoveAll(scratch) }, noNamespaces)
}

// namespaceTag begins the names of the network namespaces that tests of this process make.
func namespaceTag() string { return fmt.Sprintf("agr%d-", os.Getpid()%100000) }

// noNamespaces is an error if a network namespace is left that tests of this process made.
func noNamespaces() error {
	left, err := filepath.Glob("/run/netns/" + namespaceTag() + "*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("network namespaces are left: %v", left)
	}
	return err
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
