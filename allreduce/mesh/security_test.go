package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/allreduce"
)

// relay stands between a dialer and a listener, passes their handshake on, and
// then has its way with the frames that go to the dialer. It knows everything of the
// protocol but the secret.
type relay struct {
	listener net.Listener
	wg       sync.WaitGroup
	hurt     atomic.Int64 // frames it has altered
}

// relayedFrame is a frame as the relay sees it: head is all that stands before the
// payload, body all that follows.
type relayedFrame struct {
	h          header
	head, body []byte
}

// forge gives the frame another payload, as somebody does who knows how frames are
// checked where there is no MAC.
func (f *relayedFrame) forge() {
	f.body[len(f.body)/2] ^= 0x40
	f.h.crc = checksum(f.body)
	f.h.encode((*[headerSize]byte)(f.head))
}

// relayTo starts a relay to an address. each gets every frame to the dialer and
// returns what goes on.
func relayTo(t *testing.T, addr string, security Security, each func(r *relay, f relayedFrame) [][]byte) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{listener: l}
	r.wg.Go(func() {
		dialer, err := l.Accept()
		if err != nil {
			return
		}
		listener, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		r.wg.Go(func() {
			_, _ = io.Copy(listener, dialer)
			_ = listener.(*net.TCPConn).CloseWrite()
		})
		_ = r.toDialer(dialer, listener, security, each)
		_ = dialer.Close()
		_ = listener.Close()
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.wg.Wait()
	})
	return r
}

func (r *relay) toDialer(dialer io.Writer, listener io.Reader, security Security, each func(r *relay, f relayedFrame) [][]byte) error {
	if _, err := io.CopyN(dialer, listener, challengeSize+7+proofSize); err != nil { // challenge, verdict without an offer
		return err
	}
	size := map[Security]int{SecurityNone: headerSize, SecurityMAC: headerSize + 2*tagSize, SecurityAEAD: headerSize + tagSize}[security]
	for {
		f := relayedFrame{head: make([]byte, size)}
		if _, err := io.ReadFull(listener, f.head); err != nil {
			return err
		}
		if err := f.h.decode((*[headerSize]byte)(f.head)); err != nil {
			return err
		}
		n := int(f.h.length)
		if n > 0 && security == SecurityAEAD {
			n += tagSize
		}
		f.body = make([]byte, n)
		if _, err := io.ReadFull(listener, f.body); err != nil {
			return err
		}
		for _, b := range each(r, f) {
			if _, err := dialer.Write(b); err != nil {
				return err
			}
		}
	}
}

const relayElems = 5000

// sumsThrough reduces vectors on two ranks whose connection passes a relay,
// three times, and returns the last sum and the error of each.
func sumsThrough(t *testing.T, security Security, each func(r *relay, f relayedFrame) [][]byte) (r *relay, sums [2][]float32, errs [2]error) {
	t.Helper()
	plan, err := allreduce.NewPlan(2, 2)
	require.NoError(t, err)
	var ends [2]*Endpoint
	for rank := range ends {
		ends[rank], err = Listen(EndpointConfig{
			RunID: "test", Secret: []byte("sixteen bytes or more"), Transport: TransportTCP, Security: security,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, ends[rank].Close()) })
	}
	r = relayTo(t, ends[0].Addr(), security, each)
	peers := []string{r.listener.Addr().String(), ends[1].Addr()}
	var wg sync.WaitGroup
	for rank := range ends {
		wg.Go(func() {
			g, err := ends[rank].Connect(t.Context(), allreduce.GroupConfig{
				Generation: 1, Rank: rank, Peers: peers, Plan: plan, SegmentElems: 512, OpTimeout: 20 * time.Second,
			})
			if err != nil {
				errs[rank] = err
				return
			}
			part := make([]float32, relayElems)
			for i := range part {
				part[i] = float32(i % 7)
			}
			sums[rank] = make([]float32, relayElems)
			for bucket := range uint32(3) {
				if err == nil {
					err = g.AllReduce(t.Context(), bucket, [][]float32{part}, sums[rank])
				}
			}
			errs[rank] = err
			_ = g.Close()
		})
	}
	wg.Wait()
	return r, sums, errs
}

func rightSum(v []float32) error {
	for i, x := range v {
		if x != float32(2*(i%7)) {
			return fmt.Errorf("element %d is %v", i, x)
		}
	}
	return nil
}

func untouched(_ *relay, f relayedFrame) [][]byte { return [][]byte{f.head, f.body} }

// forging alters one frame.
func forging(number uint64) func(r *relay, f relayedFrame) [][]byte {
	return func(r *relay, f relayedFrame) [][]byte {
		if f.h.number == number {
			r.hurt.Add(1)
			f.forge()
		}
		return [][]byte{f.head, f.body}
	}
}

// Without protection of the frames whoever relays a connection changes the sum, and
// nobody notices: the attack that the MAC is for works.
func TestRelayForgesUnprotectedFrames(t *testing.T) {
	r, sums, errs := sumsThrough(t, SecurityNone, forging(29)) // of the last sum
	require.NoError(t, errors.Join(errs[:]...))
	require.EqualValues(t, 1, r.hurt.Load())
	require.Error(t, errors.Join(rightSum(sums[0]), rightSum(sums[1])), "the forgery had no effect: this is no test of anything")
}

func TestRelayThatDoesNothingIsNotNoticed(t *testing.T) {
	for _, security := range []Security{SecurityMAC, SecurityAEAD} {
		_, sums, errs := sumsThrough(t, security, untouched)
		require.NoError(t, errors.Join(errs[:]...), "%v", security)
		require.NoError(t, rightSum(sums[0]))
		require.NoError(t, rightSum(sums[1]))
	}
}

// With a MAC every change ends the group at once, and the receiver names the link.
func TestRelayIsFound(t *testing.T) {
	var held []byte
	attacks := map[string]func(r *relay, f relayedFrame) [][]byte{
		"a forged payload": forging(2),
		"a forged header": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				r.hurt.Add(1)
				f.h.segment ^= 1
				f.h.encode((*[headerSize]byte)(f.head))
			}
			return [][]byte{f.head, f.body}
		},
		"a forged goodbye": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				r.hurt.Add(1)
				f.h = header{kind: frameGoodbye, from: 0, generation: 1, number: 2}
				f.h.encode((*[headerSize]byte)(f.head))
				return [][]byte{f.head}
			}
			return [][]byte{f.head, f.body}
		},
		"a forged abort": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				r.hurt.Add(1)
				note := abortNote{origin: 0, culprit: 1, reason: "rank 1 is to blame"}.encode()
				f.h = header{kind: frameAbort, from: 0, generation: 1, number: 2, length: u32(len(note)), crc: checksum(note)}
				f.h.encode((*[headerSize]byte)(f.head))
				return [][]byte{f.head, note, make([]byte, tagSize)}
			}
			return [][]byte{f.head, f.body}
		},
		"a dropped frame": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				r.hurt.Add(1)
				return nil
			}
			return [][]byte{f.head, f.body}
		},
		"a repeated frame": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				r.hurt.Add(1)
				return [][]byte{f.head, f.body, f.head, f.body}
			}
			return [][]byte{f.head, f.body}
		},
		"frames in another order": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 2 {
				held = append(append([]byte(nil), f.head...), f.body...)
				return nil
			}
			if f.h.number == 3 {
				r.hurt.Add(1)
				return [][]byte{f.head, f.body, held}
			}
			return [][]byte{f.head, f.body}
		},
		"another frame's payload": func(r *relay, f relayedFrame) [][]byte {
			if f.h.number == 1 {
				held = append([]byte(nil), f.body...)
			}
			if f.h.number == 2 && len(held) == len(f.body) {
				r.hurt.Add(1)
				return [][]byte{f.head, held}
			}
			return [][]byte{f.head, f.body}
		},
	}
	for name, attack := range attacks {
		for _, security := range []Security{SecurityMAC, SecurityAEAD} {
			t.Run(name+"/"+security.String(), func(t *testing.T) {
				r, _, errs := sumsThrough(t, security, attack)
				require.EqualValues(t, 1, r.hurt.Load(), "the attack did not take place")
				require.ErrorIs(t, errs[1], allreduce.ErrFrame)
				require.ErrorContains(t, errs[1], "altered")
				for rank, err := range errs {
					var e *allreduce.Error
					require.ErrorAs(t, err, &e)
					require.Equal(t, rank, e.Rank)
				}
				var e *allreduce.Error
				require.ErrorAs(t, errs[1], &e)
				require.Equal(t, 0, e.Peer)
			})
		}
	}
}

// Nothing after the proofs is believed without a tag either: a relay can neither
// offer memory of its own nor steer the choice of it.
func TestHandshakeTagsAreChecked(t *testing.T) {
	a, b := newEphemeral(), newEphemeral()
	secret, hello := []byte("sixteen bytes or more"), []byte("hello")
	ours, err := a.derive(secret, hello, b.nonce(), b.nonce())
	require.NoError(t, err)
	theirs, err := b.derive(secret, hello, b.nonce(), a.nonce())
	require.NoError(t, err)
	verdict := (&verdict{text: []byte("offer")}).encode(&theirs)
	_, err = readVerdict(bytes.NewReader(verdict), &ours)
	require.NoError(t, err)
	for at := range verdict {
		bad := append([]byte(nil), verdict...)
		bad[at] ^= 1
		_, err := readVerdict(bytes.NewReader(bad), &ours)
		require.Error(t, err, "byte %d", at)
	}
	ready := encodeReady(choiceShm, &ours)
	choice, err := readReady(bytes.NewReader(ready), &theirs)
	require.NoError(t, err)
	require.EqualValues(t, choiceShm, choice)
	ready[4] = choiceTCP
	_, err = readReady(bytes.NewReader(ready), &theirs)
	require.ErrorIs(t, err, errTampered)

	// Who does not know the secret, or relays between two other keys, gets others.
	for name, k := range map[string]func() (keys, error){
		"another secret": func() (keys, error) { return a.derive([]byte("another secret text"), hello, b.nonce(), b.nonce()) },
		"another hello":  func() (keys, error) { return a.derive(secret, []byte("hellO"), b.nonce(), b.nonce()) },
		"another key":    func() (keys, error) { return newEphemeral().derive(secret, hello, b.nonce(), b.nonce()) },
	} {
		other, err := k()
		require.NoError(t, err)
		_, err = readVerdict(bytes.NewReader(verdict), &other)
		require.ErrorIs(t, err, errTampered, name)
	}
	// A key that makes the shared secret known is refused (RFC 7748, section 6.1).
	_, err = a.derive(secret, hello, b.nonce(), [nonceSize]byte{})
	require.ErrorIs(t, err, errTampered)
}

func TestSecurityNeedsASecret(t *testing.T) {
	for _, s := range []Security{SecurityMAC, SecurityAEAD} {
		_, err := Listen(EndpointConfig{RunID: "test", Security: s})
		require.ErrorContains(t, err, "needs a secret")
	}
	for name := range map[string]bool{"auto": true, "none": true, "mac": true, "aead": true} {
		s, err := ParseSecurity(name)
		require.NoError(t, err)
		require.Equal(t, name, s.String())
	}
	_, err := ParseSecurity("tls")
	require.ErrorContains(t, err, `"tls"`)
}

// Whatever comes over a protected connection, nothing that the peer has not sent is
// taken for a frame.
func FuzzSealedStream(f *testing.F) {
	f.Add(true, []byte{}, 0, byte(0))
	f.Add(false, []byte("payload"), 70, byte(1))
	f.Add(true, make([]byte, 300), 10, byte(0x80))
	f.Fuzz(func(t *testing.T, encrypt bool, payload []byte, at int, flip byte) {
		security := SecurityMAC
		if encrypt {
			security = SecurityAEAD
		}
		a, b := newEphemeral(), newEphemeral()
		k, err := a.derive([]byte("sixteen bytes or more"), nil, b.nonce(), b.nonce())
		require.NoError(t, err)
		var sent bytes.Buffer
		w := &sealedStream{tcpStream: &tcpStream{rw: &sent}, out: newSeal(security, k.dialer)}
		h := header{kind: frameWord, length: u32(len(payload))}
		var raw [headerSize]byte
		h.encode(&raw)
		require.NoError(t, w.WriteFrame(&raw, payload))
		wire := sent.Bytes()
		intact := flip == 0
		wire[((at%len(wire))+len(wire))%len(wire)] ^= flip

		r := &sealedStream{tcpStream: &tcpStream{rw: bytes.NewBuffer(wire)}, in: newSeal(security, k.dialer)}
		var got [headerSize]byte
		_, err = r.ReadHeader(&got)
		body := make([]byte, len(payload))
		if err == nil {
			require.Equal(t, raw, got)
			if len(body) > 0 {
				_, err = r.ReadPayload(body)
			}
		}
		if intact {
			require.NoError(t, err)
			require.Equal(t, payload, body)
			return
		}
		require.ErrorIs(t, err, allreduce.ErrFrame)
	})
}
