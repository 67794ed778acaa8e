// Package gate bounds what strangers can take from a listener: a connection whose
// other end has not proved who it is.
//
// Its one idea: when there is no room, the stranger who has stood longest at the gate
// goes, not the one who comes. A member proves itself within milliseconds of coming,
// so whoever holds connections open, thousands of them, keeps no member out; a queue
// that is full for new ones would. Hosts that are known to be members' (Favour) are
// never sent away for others.
//
//	g := gate.New(gate.Config{Limit: 256, PerHost: 64, Patience: 10 * time.Second})
//	conn, err := listener.Accept()
//	visit := g.Enter(conn)     // may close another connection
//	go func() {
//		err := handshake(conn)
//		if visit.Leave() && err == nil { ... } // a member; the gate forgets it
//	}()
//
// Few bounds what the same strangers can write to a log.
//
// It does not read from connections, and does not judge members.
package gate
