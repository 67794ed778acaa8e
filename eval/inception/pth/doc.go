// Package pth reads the state dictionaries that torch.save writes: names to float32
// tensors, in the ZIP form (since PyTorch 1.6) and in the older one.
//
// Its one idea: a pickle is a program, and this one is interpreted with a handful of
// instructions. It may name four things (an ordered dictionary, the function that makes
// a tensor of a storage, float and integer storages); any other name, and any
// instruction that a dictionary of tensors has no use for, ends it. Nothing is
// allocated that the file does not hold.
//
// It reads no modules, no optimizer state with other objects in it, and writes nothing.
package pth
