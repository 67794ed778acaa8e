//go:build cuda

package driver

/*
#include "calls.h"
*/
import "C"

import "gorgonia.org/cu"

// CaptureMode says which unsafe calls (such as MemAlloc) are refused while a capture
// is under way.
type CaptureMode int

// Capture modes (CUstreamCaptureMode).
const (
	CaptureGlobal      CaptureMode = iota // from any thread of the process
	CaptureThreadLocal                    // from the thread that captures
	CaptureRelaxed                        // none
)

// Graph is work that was recorded from a stream.
type Graph struct{ g C.CUgraph }

// GraphExec is a Graph made ready to run.
type GraphExec struct{ e C.CUgraphExec }

// BeginCapture makes the stream record what is put on it instead of running it.
// Streams that wait for an event recorded in it are captured with it.
func BeginCapture(s cu.Stream, mode CaptureMode) error {
	return check("cuStreamBeginCapture", C.cuStreamBeginCapture_v2(stream(s), C.int(mode)))
}

// EndCapture ends the recording and returns it. A call in between that cannot be
// recorded makes it fail; the stream is usable again either way.
func EndCapture(s cu.Stream) (Graph, error) {
	var g Graph
	return g, check("cuStreamEndCapture", C.cuStreamEndCapture(stream(s), &g.g))
}

// Capturing reports whether the stream records.
func Capturing(s cu.Stream) (bool, error) {
	var status C.int
	err := check("cuStreamIsCapturing", C.cuStreamIsCapturing(stream(s), &status))
	return status != 0, err
}

// Nodes is the number of operations in the graph.
func (g Graph) Nodes() (int, error) {
	var n C.size_t
	err := check("cuGraphGetNodes", C.cuGraphGetNodes(g.g, nil, &n))
	return int(n), err
}

// Instantiate checks the graph and makes it ready to run, as often as wanted.
func (g Graph) Instantiate() (GraphExec, error) {
	var e GraphExec
	return e, check("cuGraphInstantiate", C.cuGraphInstantiateWithFlags(&e.e, g.g, 0))
}

// Destroy frees the graph; what was instantiated from it stays.
func (g Graph) Destroy() error { return check("cuGraphDestroy", C.cuGraphDestroy(g.g)) }

// Launch runs the graph as one operation of the stream.
func (e GraphExec) Launch(s cu.Stream) error {
	return check("cuGraphLaunch", C.cuGraphLaunch(e.e, stream(s)))
}

// Destroy frees the executable graph.
func (e GraphExec) Destroy() error { return check("cuGraphExecDestroy", C.cuGraphExecDestroy(e.e)) }
