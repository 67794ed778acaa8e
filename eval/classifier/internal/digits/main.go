// Command digits trains the classifier of the embedded digits on the plain Go
// kernels and writes it beside package classifier: go generate ./eval/classifier.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval/classifier"
	"github.com/agrdist/agrdist/tensor/cpu"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "digits:", err)
		os.Exit(1)
	}
}

func run() error {
	set, err := data.Open(data.DefaultConfig())
	if err != nil {
		return err
	}
	be := cpu.New(cpu.Config{Threads: 1, Kernels: "go"})
	defer func() { _ = be.Close() }() // it keeps nothing
	k, err := classifier.TrainNew(context.Background(), be, set, classifier.ConfigFor(8, 1, 10, set.Len()))
	if err != nil {
		return err
	}
	accuracy, err := k.Accuracy(set)
	if err != nil {
		return err
	}
	digest, err := k.Digest()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := k.Save(&out); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "digits.safetensors: %s, accuracy %.4f on images kept from training\n", digest, accuracy)
	return os.WriteFile("digits.safetensors", out.Bytes(), 0o644)
}
