package allreduce

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Group is the communication of the ranks of one generation.
//
// All ranks call the same operations in the same order. An operation may be
// called from any goroutine; calls of one process run one after another, in the
// order in which they get the group's turn. A rank that calls something else
// than its peers (another operation, bucket or size) makes the operation fail
// with an error that says so.
//
// The first failure ends the group: every pending and later operation on every
// rank returns an *Error that names the peer at fault. An operation that fails
// on one rank may have succeeded on another, which had all it needed before the
// failure: there it is the next operation that fails. When an operation returns,
// with an error or without, nothing touches its arguments any more.
type Group interface {
	// Rank returns this process's rank, 0 <= Rank() < Size().
	Rank() int
	// Size returns the world size.
	Size() int
	// Generation returns the number of the generation the group belongs to.
	Generation() uint64
	// AllReduce writes to dst the sum over the whole canonical tree. parts are
	// this rank's subtree sums, one for each of Plan.Nodes(rank), each as long
	// as dst (Accumulator.Parts); they are read, not changed. dst is disjoint
	// from the parts or the same memory as one of them. The bucket number is
	// the caller's name for the vector; the ranks' must agree. In OrderTree the
	// result has the same bits on every rank and for every world size.
	AllReduce(ctx context.Context, bucket uint32, parts [][]float32, dst []float32) error
	// AllGather returns every rank's word, by rank. Words may differ in length,
	// at most MaxWord bytes each; the result is the caller's.
	AllGather(ctx context.Context, word []byte) ([][]byte, error)
	// Broadcast copies root's buf to every rank's buf, of equal length.
	Broadcast(ctx context.Context, root int, buf []float32) error
	// Barrier returns when every rank has called it.
	Barrier(ctx context.Context) error
	// Abort ends the group: every pending and later operation, on every
	// goroutine of this rank, returns at once with an error that wraps cause,
	// and the peers are told. It returns at once and may be called any number
	// of times; the first failure counts.
	Abort(cause error)
	// Close leaves the group. What the peers are still doing is not disturbed
	// as long as they need nothing more from this rank; an operation still
	// pending on this rank fails with ErrClosed. It returns when the group's
	// goroutines have ended and may be called more than once.
	Close() error
}

// MaxWord is the largest word for AllGather, in bytes.
const MaxWord = 64 << 10

// Order is the order in which AllReduce adds.
type Order uint8

// Orders of addition.
const (
	// OrderTree adds along the canonical tree: the same bits for any world size.
	OrderTree Order = iota
	// OrderRing adds around the ring of ranks: the fewest bytes for any count,
	// the same bits on every rank, but others for another world size.
	OrderRing
)

// ParseOrder returns the order of a name, "tree" or "ring".
func ParseOrder(name string) (Order, error) {
	for _, o := range []Order{OrderTree, OrderRing} {
		if o.String() == name {
			return o, nil
		}
	}
	return 0, fmt.Errorf("allreduce: order %q, want tree or ring", name)
}

func (o Order) String() string {
	switch o {
	case OrderTree:
		return "tree"
	case OrderRing:
		return "ring"
	default:
		return fmt.Sprintf("Order(%d)", uint8(o))
	}
}

// Causes of failure, to be found in an Error with errors.Is.
var (
	// ErrAborted: Abort was called on this rank or on a peer.
	ErrAborted = errors.New("allreduce: aborted")
	// ErrClosed: Close was called on this rank.
	ErrClosed = errors.New("allreduce: closed")
	// ErrPeerLeft: the peer called Close and is still needed.
	ErrPeerLeft = errors.New("allreduce: the peer has left the group")
	// ErrPeerLost: the connection to the peer broke: its process has died, or
	// the network between has.
	ErrPeerLost = errors.New("allreduce: connection to the peer lost")
	// ErrTimeout: OpTimeout has passed.
	ErrTimeout = errors.New("allreduce: deadline exceeded")
	// ErrFrame: the peer sent a frame that is corrupt or out of order.
	ErrFrame = errors.New("allreduce: bad frame")
	// ErrMismatch: the peer is in another operation, bucket, size or plan.
	ErrMismatch = errors.New("allreduce: ranks disagree")
	// ErrRefused: the peer refused the connection: wrong secret, run,
	// generation or rank.
	ErrRefused = errors.New("allreduce: connection refused by the peer")
)

// Names of operations in Error.Op.
const (
	OpConnect   = "connect"
	OpAllReduce = "all_reduce"
	OpAllGather = "all_gather"
	OpBroadcast = "broadcast"
	OpBarrier   = "barrier"
)

// NoPeer is Error.Peer where no peer is at fault.
const NoPeer = -1

// Error is the failure of an operation of a Group, or of Endpoint.Connect.
type Error struct {
	Rank       int    // of this process
	Peer       int    // the rank at fault or waited for; NoPeer if there is none
	Op         string // one of the Op names
	Generation uint64
	Bucket     uint32 // of an OpAllReduce
	Err        error
}

// Error says who failed in what, because of whom, and why.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "allreduce: generation %d rank %d: %s", e.Generation, e.Rank, e.Op)
	if e.Op == OpAllReduce {
		fmt.Fprintf(&b, " of bucket %d", e.Bucket)
	}
	if e.Peer != NoPeer {
		fmt.Fprintf(&b, ": rank %d", e.Peer)
	}
	fmt.Fprintf(&b, ": %s", strings.TrimPrefix(e.Err.Error(), "allreduce: "))
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Operation says what a rank runs, so that ranks which disagree notice.
type Operation struct {
	Name   string // one of the Op names
	Bucket uint32 // of an OpAllReduce; the root of an OpBroadcast
	Elems  int    // of the vector
}

// String describes the operation in an error.
func (o Operation) String() string {
	switch o.Name {
	case OpAllReduce:
		return fmt.Sprintf("%s of bucket %d (%d elements)", o.Name, o.Bucket, o.Elems)
	case OpBroadcast:
		return fmt.Sprintf("%s from rank %d (%d elements)", o.Name, o.Bucket, o.Elems)
	default:
		return o.Name
	}
}

// CheckParts panics on arguments of AllReduce that cannot be right on any rank.
// Implementations of Group call it first.
func (p *Plan) CheckParts(rank int, parts [][]float32, dst []float32) {
	if want := len(p.Nodes(rank)); len(parts) != want {
		panic(fmt.Sprintf("allreduce: %d parts from rank %d, the plan has %d subtrees there", len(parts), rank, want))
	}
	for i, part := range parts {
		if len(part) != len(dst) {
			panic(fmt.Sprintf("allreduce: part %d has %d elements, dst has %d", i, len(part), len(dst)))
		}
	}
}
