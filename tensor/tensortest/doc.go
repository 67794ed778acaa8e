// Package tensortest is the conformance suite of tensor.Backend: one list of
// cases, run on every backend.
//
// Its one idea: a case is data. It names its operands, calls one operation and
// says in float64 what must come out, so the same list serves to compare a
// backend with mathematics (Run), two backends or two configurations bit for
// bit (RunSame), and a backend's appetite for memory (RunAllocs). The suite
// sees a backend only through the contract: it uploads, calls and downloads.
//
// Every operand lies between guards of NaN. A read past an operand's end that
// reaches a result, and a write past a result's end, both show.
//
// The gradients' references are themselves held against finite differences of
// the forward references, in the package's own tests. The suite measures no
// speed.
package tensortest
