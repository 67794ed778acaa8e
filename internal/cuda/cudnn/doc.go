//go:build cuda

// Package cudnn binds the convolutions of cuDNN 9.
//
// The one idea: the library is opened at run time (libcudnn.so.9, or the file
// that AGRDIST_LIBCUDNN names), through prototypes of our own (api.h), so that
// building needs no header of NVIDIA's and the binary starts where the library
// is missing.
//
// A Plan is one convolution of given sizes, in one of its three directions: the
// descriptors and an algorithm. The algorithm is the first in the order of the
// library's heuristic that the library calls deterministic and that fits the
// workspace: a function of the sizes, the library's version and the GPU's model,
// never of a timing. So a Plan gives the same bits on every call.
//
// Everything is NHWC: images [N,H,W,C], filters [K,kh,kw,C] ("KRSC"). Operands
// and results are FP32, or BF16 with sums in FP32 (the library's
// PSEUDO_BFLOAT16_CONFIG, whose results are BF16 too).
//
// The calls are those that NVIDIA names legacy: present in every cuDNN 9,
// deprecated in favour of its graph API, which would also write FP32 results from
// BF16 operands and fuse the bias.
//
// api.h was checked against the headers of nvidia-cudnn-cu12 9.28.0.42 and
// nvidia-cudnn-cu13 9.28.1.4; TestHeaders repeats it on any header.
package cudnn
