// Package selftest has each of NVIDIA's libraries do one small piece of work on a GPU
// and looks at the result: what `agrdist doctor` calls working.
//
// The one idea: a library that is found may still fail at its first use, because it
// looks for other files then (NVRTC for its built-in functions, cuDNN for its engines).
// The work is small: no file is written, and a GPU needs about a second for all of it,
// most of which is making its context.
//
// It measures nothing and does not test the kernels of this project.
package selftest
