// Package cudatest runs tests of CUDA code on machines without a GPU: it builds
// doubles of NVIDIA's libraries with g++ and points the loader (package dl) at them.
// It is test support and in no shipped binary.
//
// The doubles are no mocks: they execute. The double of NVRTC compiles a kernel's CUDA
// C++ with g++ under an emulation header, the double of the driver runs it thread by
// thread on the CPU, those of cuDNN, cuBLASLt and NCCL compute on the same memory and
// streams. What they add is strictness. Streams run on a thread of their own, now or
// late, in a random order among what is ordered by nothing; blocks and threads run in
// a shuffled order; fresh memory and shared memory are NaN; the pages around a buffer
// cannot be touched; a barrier that not all threads reach, a misaligned access, a
// call with a stale handle or during a capture fail as on the device.
//
// On request they look for data races: gcc then tells of every access of a kernel, and a
// launch fails in which two threads use the same byte, one of them to write it, and no
// barrier orders them, or which reads shared memory that its block has not written.
// Barriers order the threads of a block; shuffles do not, and nothing orders blocks.
//
// They prove bindings, indices, orders and lifecycles. They prove no speed, and no
// rounding of functions such as expf, which are the C library's here.
//
// In a package's tests:
//
//	func TestMain(m *testing.M) { os.Exit(cudatest.Main(m)) }
//
// With AGRDIST_TEST_GPU=1 the same tests run on the real libraries.
//
// The doubles' own settings are environment variables, read when they are loaded:
//
//	AGRDIST_FAKE_GPUS         number of devices (1)
//	AGRDIST_FAKE_GPU_MEMORY   bytes of memory of each (4 GiB)
//	AGRDIST_FAKE_CC           compute capability (9.0)
//	AGRDIST_FAKE_SEED         of all shuffling (1)
//	AGRDIST_FAKE_CUINIT       what cuInit answers (0)
//	AGRDIST_FAKE_CUDNN        none: cuDNN's heuristics find no algorithm; refuse: the best one
//	                          is not run, refuse-all: none is
//	AGRDIST_FAKE_CUBLASLT     refuse: cuBLASLt's best algorithm cannot be run
//	AGRDIST_FAKE_RACES        1: look for data races
//	AGRDIST_FAKE_COMPUTE      none: nothing is computed; calls are checked and counted only
//	AGRDIST_FAKE_CXX          compiles the doubles and the kernels (g++); under an emulator, a
//	                          cross compiler; AGRDIST_TEST_EXEC is then what starts a program
//	                          (qemu-aarch64)
//	AGRDIST_FAKE_DRIVER       what cuDriverGetVersion answers (12060)
package cudatest
