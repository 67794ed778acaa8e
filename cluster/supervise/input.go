//go:build unix

package supervise

import (
	"errors"
	"fmt"
	"os"
)

// A worker's fifth file is its input, where its Command has one.
const inputFD = 4

// KeptFD is the first of its Command's Keep, for a worker that does know of it.
const KeptFD = inputFD + 1

// ErrNoInput reports a process that no Supervisor gave an input.
var ErrNoInput = errors.New("supervise: no input from a supervisor")

// Input is for the worker: what its Command's Input says. The caller must Close it.
func Input() (*os.File, error) {
	f := inherited(inputFD, "input")
	if f == nil {
		return nil, ErrNoInput
	}
	return f, nil
}

// feed writes a process's input to its pipe, which may hold less than that, and
// closes it. A process that ends without having read it ends the writing.
func feed(pipe *os.File, input []byte) {
	_, _ = pipe.Write(input)
	_ = pipe.Close()
}

// inputPipe returns the ends of the pipe for an input; nil for none.
func inputPipe(input []byte, pipe func() (r, w *os.File, err error)) (r, w *os.File, err error) {
	if input == nil {
		return nil, nil, nil
	}
	if r, w, err = pipe(); err != nil {
		return nil, nil, fmt.Errorf("input: %w", err)
	}
	return r, w, nil
}
