//go:build cuda

// Package cublaslt binds the few calls of cuBLASLt that matrix multiplication needs.
//
// The one idea: the library is opened at run time (libcublasLt.so.13, then .12,
// or the file that AGRDIST_LIBCUBLASLT names), through prototypes of our own
// (api.h), so that one binary serves CUDA 12 and 13, needs no header of NVIDIA's
// to be built, and starts where the library is missing.
//
// A Plan is one product of given sizes: descriptors and the first algorithm of
// the library's heuristic. Only algorithms whose sums have one order are let in
// (no split of K that adds in place, as parts arrive), so a Plan gives the same
// bits on every call; which algorithm it holds depends on the library's version
// and the GPU's model, never on a timing.
//
// api.h was checked against the headers of nvidia-cublas-cu12 12.9.3.13 and
// nvidia-cublas 13.10.0.20; TestHeaders repeats it on any header.
//
// Epilogues, FP8 and sparse matrices are not bound.
package cublaslt
