package mesh

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// shmRingBytes is the size of one direction's ring: a few segments.
const shmRingBytes = 2 << 20

const shmSize = 2 * (shmControl + shmRingBytes)

// shmSeals keep either side from shrinking memory that the other one touches.
const shmSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// shmOffer is what the listener offers in its verdict: memory that the dialer
// can open by way of /proc, if it runs on the same boot of the same host, sees
// the same processes, and belongs to the same user.
type shmOffer struct {
	Boot  string `json:"boot"`
	PID   int    `json:"pid"`
	FD    int    `json:"fd"`
	Nonce []byte `json:"nonce"`

	file *os.File
	mem  []byte
}

// offerShm makes shared memory for a connection; nil where the peer is on
// another host or the kernel refuses.
func offerShm(conn net.Conn) *shmOffer {
	if !sameHost(conn) {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return nil
	}
	fd, err := unix.MemfdCreate("agrdist-allreduce", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil
	}
	o := &shmOffer{Boot: boot, PID: os.Getpid(), FD: fd, file: os.NewFile(uintptr(fd), "agrdist-allreduce")}
	if err := o.file.Truncate(shmSize); err != nil {
		o.withdraw()
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, shmSeals); err != nil {
		o.withdraw()
		return nil
	}
	if o.mem, err = mapShm(fd); err != nil {
		o.withdraw()
		return nil
	}
	o.Nonce = make([]byte, shmNonceSize)
	_, _ = rand.Read(o.Nonce) // never fails
	copy(o.mem, o.Nonce)
	return o
}

// encode returns the offer as the verdict's text; none for a nil offer.
func (o *shmOffer) encode() []byte {
	if o == nil {
		return nil
	}
	b, err := json.Marshal(o)
	if err != nil || len(b) > maxReason {
		return nil
	}
	return b
}

// accept returns the listener's stream; the dialer has mapped the memory.
func (o *shmOffer) accept(conn net.Conn) stream {
	_ = o.file.Close()
	return newShmStream(conn, o.mem, true, unix.Munmap)
}

// withdraw frees what an offer holds.
func (o *shmOffer) withdraw() {
	if o == nil {
		return
	}
	if o.mem != nil {
		_ = unix.Munmap(o.mem)
	}
	_ = o.file.Close()
}

// takeShm maps the memory of an offer and returns the dialer's stream.
func takeShm(conn net.Conn, text []byte) (stream, error) {
	var o shmOffer
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("allreduce: offer of shared memory: %w", err)
	}
	boot, err := bootID()
	if err != nil || boot != o.Boot || !sameHost(conn) {
		return nil, fmt.Errorf("allreduce: shared memory of another host (boot %q)", o.Boot)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", o.PID, o.FD), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("allreduce: open the peer's shared memory: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	var stat unix.Stat_t
	if err != nil || seals&shmSeals != shmSeals || unix.Fstat(fd, &stat) != nil || stat.Size != shmSize {
		return nil, fmt.Errorf("allreduce: /proc/%d/fd/%d is not the shared memory of a peer", o.PID, o.FD)
	}
	mem, err := mapShm(fd)
	if err != nil {
		return nil, err
	}
	if len(o.Nonce) != shmNonceSize || subtle.ConstantTimeCompare(o.Nonce, mem[:shmNonceSize]) != 1 {
		_ = unix.Munmap(mem)
		return nil, fmt.Errorf("allreduce: /proc/%d/fd/%d is the shared memory of another peer", o.PID, o.FD)
	}
	return newShmStream(conn, mem, false, unix.Munmap), nil
}

func mapShm(fd int) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, shmSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("allreduce: map shared memory: %w", err)
	}
	return mem, nil
}

// yieldCore lets other threads and processes have the core, if any wait for it.
func yieldCore() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// bootID names the running kernel.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("allreduce: boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
