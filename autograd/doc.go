// Package autograd is reverse-mode differentiation over a tensor.Backend.
//
// The one idea: a network whose shapes do not change is recorded once and run
// many times. Recording a Tape computes nothing; it writes down the operations
// in order. Compile appends the gradient operations in the reverse order, works
// out when each intermediate value is last used, and packs all of them into one
// buffer, the Arena. Running the Program is then a loop over prepared calls: no
// allocation on the Go heap or on the device, and the same buffers in the same
// order at every step, which is what a CUDA graph needs.
//
//	record ----> [ forward nodes ] --gradients--> [ forward | backward ]
//	                                                        |
//	   Arena <--offsets-- liveness <------------------------+
//
// Values are immutable once written. Where an operation may write over one of
// its operands and that operand is not used again, the planner gives both the
// same memory.
//
// Memory is saved in three ways: a value is dropped after its last use, forward
// or backward; cheap values (normalisation, SiLU, dropout, concatenation,
// enlargement) are computed again in the backward pass instead of being kept;
// and the offsets are chosen knowing the whole step.
//
// A parameter's gradient is written straight to the buffer its owner gave, and
// the owner is told as soon as it is final (Step.Ready), so that communication
// can start while the backward pass continues.
//
// On a backend that records (tensor.Replayer: CUDA graphs) Program.Replay runs the
// same operations as one recording, or as a few, cut where gradients become ready if
// somebody waits for those.
//
// The package holds no parameters, knows no network, and supports neither
// control flow that depends on data nor second derivatives.
package autograd
