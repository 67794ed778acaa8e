// Package shapes checks the shapes that an operation of a tensor.Backend is
// given, and derives the sizes that it works on.
//
// The one idea: what fits is the contract's, not a backend's, so that all
// backends refuse the same operands in the same words. A mistake is the
// programmer's and panics; the message begins with the backend's name and the
// operation and shows the shapes.
//
// What it does not do: it looks at no buffer. Whose memory an operand is, and of
// which type, each backend checks itself.
package shapes
