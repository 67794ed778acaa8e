// Package pth reads the tensors of files that torch.save wrote: state dictionaries (names
// to tensors), and training checkpoints that keep several of them beside other things. It
// knows the ZIP form (since PyTorch 1.6) and the older one.
//
//	f, err := pth.Open("ckpt.pt")
//	defer f.Close()
//	f.Groups()                          // ema_model, net_model
//	weights, err := f.Tensors("net_model")
//
// Its one idea: a pickle is a program, and this one is interpreted with a handful of
// instructions. It may name an ordered dictionary, the functions that make a tensor of a
// storage, and storages; any other name, and any instruction that plain values have no use
// for, ends it. Nothing is allocated that the file does not hold, and only the storages of
// the tensors that are asked for are read.
//
// It reads no modules and writes nothing.
package pth
