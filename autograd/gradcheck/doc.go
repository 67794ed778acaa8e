// Package gradcheck checks gradients: a slow tensor.Backend in float64 and finite
// differences on it. It is for tests.
//
// The one idea: run the very tape that will train on a backend where rounding is
// 1e-16, so that a difference quotient is right to many digits and a wrong sign, a
// lost term or a missing factor cannot hide in float32 noise. The same values then
// judge a fast backend.
//
// Every operation is written out from its definition, one loop a sum, and shares no
// code with the other backends.
package gradcheck
