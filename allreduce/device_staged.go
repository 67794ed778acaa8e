package allreduce

import (
	"context"
	"slices"

	"github.com/agrdist/agrdist/tensor"
)

// Staged returns a DeviceGroup that needs nothing of the device but copies: Wait
// downloads the buffers, sums them with g in host memory, and uploads the sums.
// The copies of one bucket overlap with the exchange of another. A group of one
// rank leaves the host out.
func Staged(g Group, be tensor.Backend) DeviceGroup { return &staged{Group: g, be: be} }

type staged struct {
	Group
	be    tensor.Backend
	queue []*stagedOp
	spare []*stagedOp // with the memory of earlier ones
}

// stagedOp is a queued operation; dst and host are the same memory in two places.
type stagedOp struct {
	bucket uint32
	root   int // of a broadcast; negative: an all-reduce
	parts  []tensor.Buffer
	dst    tensor.Buffer

	hostParts [][]float32
	host      []float32
	err       error
}

// Transport implements DeviceGroup.
func (s *staged) Transport() string {
	if s.Size() == 1 {
		return "one device"
	}
	return "copies through the host"
}

// AllReduceDevice implements DeviceGroup.
func (s *staged) AllReduceDevice(_ context.Context, bucket uint32, parts []tensor.Buffer, dst tensor.Buffer) error {
	if s.Size() == 1 {
		shape := tensor.Of(dst.Len())
		s.be.Copy(tensor.Tensor{Buf: dst, Shape: shape}, tensor.Tensor{Buf: parts[0], Shape: shape})
		return nil
	}
	op := s.op(bucket, -1, dst)
	op.parts = append(op.parts, parts...)
	for len(op.hostParts) < len(parts) {
		op.hostParts = append(op.hostParts, nil)
	}
	for i := range parts {
		op.hostParts[i] = resize(op.hostParts[i], dst.Len())
	}
	return nil
}

// BroadcastDevice implements DeviceGroup.
func (s *staged) BroadcastDevice(_ context.Context, root int, buf tensor.Buffer) error {
	if s.Size() > 1 {
		s.op(0, root, buf)
	}
	return nil
}

// op queues an operation.
func (s *staged) op(bucket uint32, root int, dst tensor.Buffer) *stagedOp {
	op := &stagedOp{}
	if n := len(s.spare); n > 0 { // the same of the step before, as a rule
		op, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	op.bucket, op.root, op.dst, op.parts, op.err = bucket, root, dst, op.parts[:0], nil
	op.host = resize(op.host, dst.Len())
	s.queue = append(s.queue, op)
	return op
}

func resize(b []float32, n int) []float32 {
	if cap(b) < n {
		return make([]float32, n)
	}
	return b[:n]
}

// Wait implements DeviceGroup. The calling goroutine copies, another one talks to
// the peers.
func (s *staged) Wait(ctx context.Context) error {
	ready := make(chan *stagedOp, len(s.queue))
	summed := make(chan *stagedOp, len(s.queue))
	go func() {
		defer close(summed)
		for op := range ready {
			op.err = s.run(ctx, op)
			summed <- op
			if op.err != nil {
				return
			}
		}
	}()
	var failed error
	finish := func(op *stagedOp) {
		if failed == nil {
			failed = op.err
		}
		if failed == nil && op.root != s.Rank() {
			s.be.Upload(op.dst, op.host)
		}
	}
	for _, op := range s.queue {
		if failed == nil {
			failed = s.download(op)
		}
		if failed != nil {
			break
		}
		ready <- op
		for len(summed) > 0 {
			finish(<-summed)
		}
	}
	close(ready)
	for op := range summed {
		finish(op)
	}
	for _, op := range slices.Backward(s.queue) { // so that each gets its own memory again
		s.spare = append(s.spare, op)
	}
	s.queue = s.queue[:0]
	return failed
}

// download brings what this rank contributes to the host.
func (s *staged) download(op *stagedOp) error {
	if op.root >= 0 {
		if op.root != s.Rank() {
			return nil
		}
		return s.be.Download(op.host, op.dst)
	}
	for i, part := range op.parts {
		if err := s.be.Download(op.hostParts[i], part); err != nil {
			return err
		}
	}
	return nil
}

func (s *staged) run(ctx context.Context, op *stagedOp) error {
	if op.root >= 0 {
		return s.Broadcast(ctx, op.root, op.host)
	}
	return s.AllReduce(ctx, op.bucket, op.hostParts[:len(op.parts)], op.host)
}
