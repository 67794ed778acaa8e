package membership

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A thousand strangers that announce 19 MB each and send what they can cost the
// gossip no memory, keep no member out, and fill no log.
func TestStrangersCostNothing(t *testing.T) {
	secret := key()
	var log lockedBuffer
	a := loopback(t, "a", func(c *Config) {
		c.SecretKey, c.Meta = secret, Meta{CoordinatorAddr: "127.0.0.1:1"}
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	// As the library frames an encrypted push/pull: label, type, length, bytes.
	announced := append([]byte{244, 3, 'r', 'u', 'n', 10}, binary.BigEndian.AppendUint32(nil, 19<<20)...)
	announced = append(announced, make([]byte, 64<<10)...)
	const strangers = 1000
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range strangers {
		c, err := net.DialTimeout("tcp", a.Addr(), 10*time.Second)
		require.NoError(t, err)
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)) // what fits into the kernel's buffers
		_, _ = c.Write(announced)
		t.Cleanup(func() { _ = c.Close() })
	}
	b := loopback(t, "b", func(c *Config) { c.SecretKey, c.Seeds = secret, []string{a.Addr()} })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := b.FindCoordinator(ctx)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.Less(t, after.Sys-before.Sys, uint64(64<<20), "bytes taken from the system")
	require.LessOrEqual(t, strings.Count(log.String(), "refused"), 3)
}

// Somebody who has taken the ports that a node looks for others at lets it in and announces
// 19 MB, from each of them: it costs the node a bounded part of that.
func TestFalseSeedsCostLittle(t *testing.T) {
	var seeds []string
	var sent sync.WaitGroup
	for range joinWidth {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		seeds = append(seeds, l.Addr().String())
		sent.Add(1)
		go func() {
			var once sync.Once
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write(append([]byte(doorMagic), make([]byte, nonceSize)...))
				_, _ = io.ReadFull(c, make([]byte, 32)) // the proof: any will do
				_, _ = c.Write([]byte{doorOpen})
				_, _ = c.Write(binary.BigEndian.AppendUint32([]byte{10}, 19<<20))
				for range 18 {
					if _, err := c.Write(make([]byte, 1<<20)); err != nil {
						break
					}
				}
				once.Do(sent.Done)
				_, _ = io.Copy(io.Discard, c) // until the node has had enough
				_ = c.Close()
			}
		}()
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	loopback(t, "a", func(c *Config) { c.SecretKey, c.Seeds = key(), seeds })
	sent.Wait()
	runtime.ReadMemStats(&after)
	require.Less(t, after.Sys-before.Sys, uint64(96<<20), "bytes taken from the system; %d MB were sent", joinWidth*18)
}

// The proof serves one stream: what was overheard opens no other.
func TestProofIsNotReplayed(t *testing.T) {
	a := loopback(t, "a", func(c *Config) { c.SecretKey = key() })
	dial := func(answer func(nonce []byte) []byte) error {
		c, err := net.Dial("tcp", a.Addr())
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		hello := make([]byte, len(doorMagic)+nonceSize)
		_, err = io.ReadFull(c, hello)
		require.NoError(t, err)
		_, err = c.Write(answer(hello[len(doorMagic):]))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
	var old []byte
	require.NoError(t, dial(func(nonce []byte) []byte {
		old = doorProof(a.cfg.SecretKey, nonce)
		return old
	}))
	require.Error(t, dial(func([]byte) []byte { return old }))
	require.Error(t, dial(func(nonce []byte) []byte { return doorProof(key(), nonce) }))
	require.Error(t, dial(func([]byte) []byte { return make([]byte, 32) }))
}

// Whatever a stranger says, either half of the proof ends with an error.
func FuzzDoor(f *testing.F) {
	f.Add([]byte(doorMagic + "01234567890123456789012345678901\x01"))
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, said []byte) {
		d := &door{keys: func() [][]byte { return [][]byte{[]byte("a key of thirty-two characters..")} }}
		for _, half := range []func(net.Conn) error{d.prove, func(c net.Conn) error { return d.knock(c, time.Minute) }} {
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				go func() { _, _ = io.Copy(io.Discard, theirs) }()
				_, _ = theirs.Write(said)
				_ = theirs.Close()
			}()
			err := half(ours)
			_ = ours.Close()
			<-done
			// Only knock cannot tell: it learns by the first frame that the other end
			// has no key either.
			if err == nil {
				require.GreaterOrEqual(t, len(said), len(doorMagic)+nonceSize+1)
				require.Equal(t, doorMagic, string(said[:len(doorMagic)]))
			}
		}
	})
}
