//go:build linux

package sharedmem_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/agrdist/agrdist/internal/leaktest"
	"github.com/agrdist/agrdist/internal/sharedmem"
)

const childEnv = "AGRDIST_SHAREDMEM_TEST_CHILD"

// TestMain: the test binary is also the process that owns a block.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		leaktest.Main(m)
	}
	b, err := sharedmem.Alloc(4000)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	b.Float32s()[999] = 7
	t := b.Ticket()
	fmt.Fprintln(os.Stdout, hex.EncodeToString(t.Append(nil)))
	_, _ = io.Copy(io.Discard, os.Stdin) // lives until the parent lets go
}

func alloc(t *testing.T, n int) *sharedmem.Memory {
	t.Helper()
	m, err := sharedmem.Alloc(n)
	require.NoError(t, err)
	t.Cleanup(m.Free)
	return m
}

// Another process reads what the owner has written, also after its death.
func TestViewOutlivesItsOwner(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	raw, err := hex.DecodeString(strings.TrimSpace(line))
	require.NoError(t, err)
	ticket, err := sharedmem.ParseTicket(raw)
	require.NoError(t, err)
	require.EqualValues(t, cmd.Process.Pid, ticket.PID)
	v, err := sharedmem.Open(ticket)
	require.NoError(t, err)
	defer v.Close()

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_ = stdin.Close()
	f, err := v.Float32s(3996, 1)
	require.NoError(t, err)
	require.Equal(t, []float32{7}, f)
	_, err = sharedmem.Open(ticket)
	require.ErrorIs(t, err, os.ErrNotExist, "the process has gone")
}

// What the owner writes shows in a view at once; the ranges of a view are
// checked.
func TestViewShowsTheBlock(t *testing.T) {
	m := alloc(t, 10_000)
	v, err := sharedmem.Open(m.Ticket())
	require.NoError(t, err)
	defer v.Close()
	f, err := v.Float32s(400, 2400)
	require.NoError(t, err)
	copy(m.Float32s()[100:], []float32{1, 2, 3})
	require.Equal(t, []float32{1, 2, 3, 0}, f[:4])

	for _, c := range []struct {
		off uint64
		n   int
	}{{404, 2400}, {10_004, 0}, {2, 1}, {0, -1}, {1 << 63, 1}, {1<<64 - 4, 2}, {0, 1 << 62}} {
		_, err := v.Float32s(c.off, c.n)
		require.ErrorIs(t, err, sharedmem.ErrTicket, "%d floats at %d", c.n, c.off)
	}
	f, err = v.Float32s(10_000, 0)
	require.NoError(t, err)
	require.Empty(t, f)
}

// A peer can neither write to a block nor resize it.
func TestBlockIsSealed(t *testing.T) {
	ticket := alloc(t, 10_000).Ticket()
	path := fmt.Sprintf("/proc/%d/fd/%d", ticket.PID, ticket.FD)
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.ErrorIs(t, err, unix.EPERM)
	_, err = unix.Pwrite(fd, []byte("x"), 5000)
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, 0), unix.EPERM)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, 0)
	require.ErrorIs(t, err, unix.EPERM)
}

// A ticket that does not lead to its block opens nothing.
func TestOpenRefuses(t *testing.T) {
	good := alloc(t, 10_000).Ticket()
	plain, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer func() { _ = plain.Close() }()
	require.NoError(t, plain.Truncate(10_000+4096))
	bare, err := unix.MemfdCreate("bare", unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	defer func() { _ = unix.Close(bare) }()
	require.NoError(t, unix.Ftruncate(bare, 10_000+4096))

	for name, c := range map[string]struct {
		change func(*sharedmem.Ticket)
		want   error
	}{
		"nonce":      {func(k *sharedmem.Ticket) { k.Nonce[31] ^= 1 }, sharedmem.ErrTicket},
		"bytes":      {func(k *sharedmem.Ticket) { k.Bytes++ }, sharedmem.ErrTicket},
		"file":       {func(k *sharedmem.Ticket) { k.FD = uint32(plain.Fd()) }, sharedmem.ErrTicket},
		"unsealed":   {func(k *sharedmem.Ticket) { k.FD = uint32(bare) }, sharedmem.ErrTicket},
		"descriptor": {func(k *sharedmem.Ticket) { k.FD = 1 << 20 }, os.ErrNotExist},
		"process":    {func(k *sharedmem.Ticket) { k.PID = 1<<31 - 1 }, os.ErrNotExist},
	} {
		ticket := good
		c.change(&ticket)
		_, err := sharedmem.Open(ticket)
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestFind(t *testing.T) {
	a, b := alloc(t, 10_000), alloc(t, 4096)
	require.NotEqual(t, a.ID(), b.ID())
	for _, m := range []*sharedmem.Memory{a, b} {
		f := m.Float32s()
		got, off, ok := sharedmem.Find(f[3:])
		require.True(t, ok)
		require.Same(t, m, got)
		require.EqualValues(t, 12, off)
		_, _, ok = sharedmem.Find(f[:0])
		require.False(t, ok)
	}
	_, _, ok := sharedmem.Find(make([]float32, 100))
	require.False(t, ok)

	gone, err := sharedmem.Alloc(4096)
	require.NoError(t, err)
	f, ticket := gone.Float32s(), gone.Ticket()
	gone.Free()
	gone.Free()
	_, _, ok = sharedmem.Find(f)
	require.False(t, ok)
	_, err = sharedmem.Open(ticket)
	require.Error(t, err)
	_, err = sharedmem.Alloc(0)
	require.Error(t, err)
}

func FuzzTicket(f *testing.F) {
	f.Add((&sharedmem.Ticket{ID: 1, PID: 2, FD: 3, Bytes: 4}).Append(nil))
	f.Add(make([]byte, sharedmem.TicketSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		ticket, err := sharedmem.ParseTicket(b)
		if err != nil {
			require.ErrorIs(t, err, sharedmem.ErrTicket)
			return
		}
		require.Equal(t, b, ticket.Append(nil))
	})
}
