// Package safetensors reads and writes the safetensors file format
// (https://github.com/huggingface/safetensors): a header that says where every
// tensor lies, then the bytes, and nothing that can be executed.
//
//	offset 0   8 bytes   N, the length of the header, little endian
//	offset 8   N bytes   JSON object, starts with '{', may end in spaces:
//	                     {"__metadata__": {string: string},
//	                      NAME: {"dtype": "F32", "shape": [2,3],
//	                             "data_offsets": [begin, end]}, ...}
//	offset 8+N           the data; offsets count from here
//
// The one idea: a file is accepted only if there is exactly one way to read it.
// Every byte of the data belongs to exactly one tensor, every key occurs once,
// every size follows from shape and dtype, and no length is believed before it
// was compared with the size of the file. What fails any of this is refused
// with the file, the key and the offset.
//
// The writer streams: it needs one small buffer whatever the size of the
// tensors, and gives the same bytes as the reference implementation for the
// same tensors.
//
// The package knows nothing of models, checkpoints or devices, maps no memory
// and reads no other format; a pickle (.bin, .pt) is refused by its users.
package safetensors
