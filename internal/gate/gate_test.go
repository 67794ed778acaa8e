package gate

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// conn is a connection of which only the address and the end matter.
type conn struct {
	net.Conn

	host   string
	closed bool
}

func (c *conn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.host), Port: 1}
}

func (c *conn) Close() error {
	c.closed = true
	return nil
}

func enter(g *Gate, host string) (*conn, *Visit) {
	c := &conn{host: host}
	return c, g.Enter(c)
}

// Whoever holds connections open loses the oldest; whoever comes gets in.
func TestTheOldestGoes(t *testing.T) {
	g := New(Config{Limit: 3})
	a, va := enter(g, "127.0.0.1")
	b, vb := enter(g, "127.0.0.1")
	enter(g, "127.0.0.1")
	require.True(t, vb.Leave(), "a member has proved itself")
	require.False(t, vb.Leave())
	enter(g, "127.0.0.1")
	require.False(t, a.closed)
	last, vl := enter(g, "127.0.0.1")
	require.True(t, a.closed)
	require.False(t, va.Leave(), "it was sent away")
	require.False(t, b.closed, "members are none of the gate's business")
	require.False(t, last.closed)
	require.True(t, vl.Leave())
	require.Equal(t, 2, g.Len())
	g.Close()
	require.Zero(t, g.Len())
	c, _ := enter(g, "127.0.0.1")
	require.True(t, c.closed)
}

func TestOneHostHasItsShare(t *testing.T) {
	g := New(Config{Limit: 10, PerHost: 2})
	other, _ := enter(g, "10.0.0.9")
	first, _ := enter(g, "10.0.0.1")
	for range 20 {
		enter(g, "10.0.0.1")
	}
	require.True(t, first.closed)
	require.False(t, other.closed, "the flood came from elsewhere")
	require.Equal(t, 3, g.Len())
	require.Len(t, g.byHost, 2)
}

// Hosts of members are not sent away for others.
func TestFavour(t *testing.T) {
	g := New(Config{Limit: 4})
	g.Favour([]string{"10.0.0.1"})
	member, _ := enter(g, "10.0.0.1")
	for i := range 20 {
		enter(g, "10.0.1."+string(rune('0'+i%10)))
	}
	require.False(t, member.closed)
	for range 3 {
		enter(g, "10.0.0.1")
	}
	late, visit := enter(g, "10.0.1.1")
	require.True(t, late.closed)
	require.False(t, visit.Leave())
	require.False(t, member.closed)
	enter(g, "10.0.0.1")
	require.True(t, member.closed, "but for one another")
	require.Equal(t, 4, g.Len())
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Limit: 3, Patience: time.Second})
		slow, v := enter(g, "10.0.0.1")
		_, quick := enter(g, "10.0.0.1")
		require.True(t, quick.Leave())
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, slow.closed)
		require.False(t, v.Leave())
		require.Zero(t, g.Len())
	})
}

func TestFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := Few(slog.New(slog.NewTextHandler(&out, nil)), 2, time.Minute).With("part", "x")
		for range 1000 {
			log.Warn("refused")
		}
		log.Warn("something else")
		require.Equal(t, 3, strings.Count(out.String(), "\n"))
		time.Sleep(time.Minute)
		log.Warn("refused")
		log.Warn("refused")
		require.Equal(t, 5, strings.Count(out.String(), "\n"))
		require.Equal(t, 1, strings.Count(out.String(), "msg=refused part=x left_out=998"))
	})
}
