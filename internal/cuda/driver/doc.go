// Package driver makes one binary of the tag cuda start everywhere, with a GPU or
// without, and has the driver calls that gorgonia.org/cu lacks.
//
// Its one idea is the trampoline: the binary links against no libcuda. Each cu*
// function it calls is one indirect jump through a table (trampolines_amd64.S and
// trampolines_arm64.S, of the names in symbols.h), and [Init] fills the table from the library that it finds
// at run time. Before that every call fails with CUDA_ERROR_NOT_INITIALIZED, except
// cuInit, which does nothing: cu's own initialisation calls it in every process, also
// in one that only prints its version, and would end the process where it fails.
//
// So: call Init first, then use gorgonia.org/cu. Contexts belong to OS threads: a
// goroutine that calls the driver is locked to its thread, or makes the context
// current before each call. Of cu, the plain functions are sound on primary contexts;
// its Ctx and BatchedContext are not (they panic, or destroy what they share).
//
// The package does not choose devices and holds no state beyond the loaded library.
package driver
