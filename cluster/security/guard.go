package security

import (
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/agrdist/agrdist/internal/gate"
)

// What a guarded listener lets strangers have: connections that have not yet shown a
// certificate of the run.
const (
	maxStrangers     = 256
	maxFromHost      = 64
	handshakeTimeout = 10 * time.Second
)

// Guard bounds the strangers of a gRPC listener, in number and in time: it returns the
// listener to serve on, and the credentials to serve with, which tell the guard who is
// no stranger any more.
func Guard(l net.Listener, c credentials.TransportCredentials) (net.Listener, credentials.TransportCredentials) {
	g := gate.New(gate.Config{Limit: maxStrangers, PerHost: maxFromHost, Patience: handshakeTimeout})
	return &guarded{Listener: l, gate: g}, admitting{c}
}

type guarded struct {
	net.Listener

	gate *gate.Gate
}

// Accept implements net.Listener.
func (g *guarded) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // a listener passes on what it got
	}
	return &visitor{Conn: conn, visit: g.gate.Enter(conn)}, nil
}

// Close implements net.Listener.
func (g *guarded) Close() error {
	g.gate.Close()
	return g.Listener.Close() //nolint:wrapcheck // a listener passes on what it got
}

// visitor is a connection at the gate.
type visitor struct {
	net.Conn

	visit *gate.Visit
}

// Close implements net.Conn.
func (v *visitor) Close() error {
	v.visit.Leave()
	return v.Conn.Close() //nolint:wrapcheck // a connection passes on what it got
}

// admitting lets out of the gate whose handshake has succeeded.
type admitting struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (a admitting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ServerHandshake(raw)
	if v, ok := raw.(*visitor); ok && err == nil {
		v.visit.Leave()
	}
	return conn, info, err //nolint:wrapcheck // credentials pass on what they got
}

// Clone implements credentials.TransportCredentials.
func (a admitting) Clone() credentials.TransportCredentials {
	return admitting{a.TransportCredentials.Clone()}
}
