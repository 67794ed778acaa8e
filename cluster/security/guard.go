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
	return g.Guard(l), admitting{c}
}

// admitting lets out of the gate whose handshake has succeeded.
type admitting struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (a admitting) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ServerHandshake(raw)
	if err == nil {
		gate.Admit(raw)
	}
	return conn, info, err //nolint:wrapcheck // credentials pass on what they got
}

// Clone implements credentials.TransportCredentials.
func (a admitting) Clone() credentials.TransportCredentials {
	return admitting{a.TransportCredentials.Clone()}
}
