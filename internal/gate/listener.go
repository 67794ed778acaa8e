package gate

import "net"

// Guard returns a listener whose connections stand at the gate until Admit lets them
// through, or they close. Closing it closes the gate.
func (g *Gate) Guard(l net.Listener) net.Listener { return &guarded{l, g} }

// Admit lets a connection of a guarded listener through, or one over it that knows it
// (NetConn), as TLS does: its other end has proved who it is. Others it leaves alone.
func Admit(c net.Conn) {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	if v, ok := c.(*visitor); ok {
		v.visit.Leave()
	}
}

type guarded struct {
	net.Listener

	gate *Gate
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

	visit *Visit
}

// Close implements net.Conn.
func (v *visitor) Close() error {
	v.visit.Leave()
	return v.Conn.Close() //nolint:wrapcheck // a connection passes on what it got
}
