package mesh

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

// shmPair returns the two ends of a stream over small rings in ordinary memory.
func shmPair(t *testing.T, ring int) (a, b *shmStream) {
	t.Helper()
	words := make([]uint64, 2*(shmControl+ring)/8) // aligned
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dialled, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	keep := func([]byte) error {
		runtime.KeepAlive(words)
		return nil
	}
	a, b = newShmStream(accepted, mem, true, keep), newShmStream(dialled, mem, false, keep)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
	return a, b
}

// Every byte comes once and in order through rings much smaller than the data,
// in both directions at once, whatever the sizes of reads and writes.
func TestShmStreamCarriesEverything(t *testing.T) {
	a, b := shmPair(t, 1<<12)
	const total = 3 << 20
	send := func(s *shmStream, seed uint64) error {
		r := rand.New(rand.NewPCG(seed, 1))
		for left := total; left > 0; {
			n := min(1+r.IntN(9000), left)
			chunk := make([]byte, n)
			for i := range chunk {
				chunk[i] = byte(r.Uint32())
			}
			cut := r.IntN(n + 1)
			if err := errors.Join(s.write(chunk[:cut]), s.write(chunk[cut:])); err != nil {
				return err
			}
			left -= n
		}
		return s.CloseWrite()
	}
	receive := func(s *shmStream, seed uint64) error {
		got, err := io.ReadAll(s)
		if err != nil {
			return err
		}
		r := rand.New(rand.NewPCG(seed, 1))
		var want []byte
		for left := total; left > 0; {
			n := min(1+r.IntN(9000), left)
			for range n {
				want = append(want, byte(r.Uint32()))
			}
			r.IntN(n + 1)
			left -= n
		}
		if !bytes.Equal(got, want) {
			return errors.New("other bytes")
		}
		return nil
	}
	errs := make(chan error, 4)
	go func() { errs <- send(a, 1) }()
	go func() { errs <- send(b, 2) }()
	go func() { errs <- receive(a, 2) }()
	go func() { errs <- receive(b, 1) }()
	for range 4 {
		require.NoError(t, <-errs)
	}
}

func TestShmStreamDeadlines(t *testing.T) {
	a, b := shmPair(t, 1<<12)
	past := time.Unix(1, 0)

	// Set beforehand, and while something waits.
	require.NoError(t, a.SetReadDeadline(past))
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, a.SetReadDeadline(time.Time{}))
	errs := make(chan error, 2)
	go func() {
		_, err := a.Read(make([]byte, 1))
		errs <- err
	}()
	go func() { errs <- b.write(make([]byte, 1<<14)) }() // more than fits: a reads one byte at most
	require.NoError(t, <-errs, "the read, with the first byte")
	require.NoError(t, b.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)

	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{a})
		errs <- err
	}()
	require.NoError(t, a.SetReadDeadline(past))
	require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)

	// A moved deadline does not fire at its old time.
	require.NoError(t, b.SetWriteDeadline(time.Now().Add(time.Hour)))
	require.NoError(t, b.SetWriteDeadline(time.Time{}))
	require.NoError(t, a.SetReadDeadline(time.Time{}))
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{a})
		errs <- err
	}()
	require.NoError(t, b.write(make([]byte, 1<<14)))
	require.NoError(t, b.CloseWrite())
	require.NoError(t, <-errs)
}

// The end of the bell's connection is the peer's death: what it has written can
// still be read, then the stream has ended.
func TestShmStreamPeerDies(t *testing.T) {
	a, b := shmPair(t, 1<<12)
	require.NoError(t, b.write([]byte("last words")))
	require.NoError(t, b.conn.Close())
	got, err := io.ReadAll(a)
	require.NoError(t, err)
	require.Equal(t, "last words", string(got))
	require.Error(t, a.write(make([]byte, 1<<14)), "nobody will read it")
}

// A peer that writes nonsense into the control words is found out.
func TestShmStreamNonsense(t *testing.T) {
	a, b := shmPair(t, 1<<12)
	b.out.written.Store(1 << 40)
	_, err := a.Read(make([]byte, 1))
	require.ErrorIs(t, err, allreduce.ErrFrame)
	a.out.read.Store(5)
	require.ErrorIs(t, a.write([]byte("x")), allreduce.ErrFrame)
}
