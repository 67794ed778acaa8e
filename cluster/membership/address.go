package membership

import (
	"fmt"
	"net"
	"slices"
)

// Address is one by which other machines could reach this one.
type Address struct {
	IP        net.IP
	Interface string
}

// Addresses lists the addresses of this machine's interfaces that are up, without
// loopback and link-local ones: first the one that leaves over the default route,
// IPv4 before IPv6.
func Addresses() ([]Address, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("membership: interfaces: %w", err)
	}
	var all []Address
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				all = append(all, Address{n.IP, i.Name})
			}
		}
	}
	sortAddresses(all, routed())
	return all, nil
}

// sortAddresses puts the preferred ones first.
func sortAddresses(all []Address, routed []net.IP) {
	rank := func(a Address) int {
		r := 0
		if a.IP.To4() == nil {
			r += 2
		}
		if !slices.ContainsFunc(routed, a.IP.Equal) {
			r++
		}
		return r
	}
	slices.SortStableFunc(all, func(a, b Address) int { return rank(a) - rank(b) })
}

// routed returns the addresses that packets to the world leave from. Nothing is
// sent: a UDP socket that is connected only looks up its route. The destinations
// are documentation addresses (RFC 5737, RFC 3849).
func routed() []net.IP {
	var ips []net.IP
	for network, to := range map[string]net.IP{"udp4": net.IPv4(198, 51, 100, 1), "udp6": net.ParseIP("2001:db8::1")} {
		c, err := net.DialUDP(network, nil, &net.UDPAddr{IP: to, Port: 9})
		if err != nil {
			continue // no such route
		}
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			ips = append(ips, a.IP)
		}
		_ = c.Close() // nothing was sent
	}
	return ips
}

// advertised returns the address others are to dial.
func advertised(bound net.IP, advertise net.IP) (net.IP, error) {
	if advertise != nil {
		return advertise, nil
	}
	if !bound.IsUnspecified() {
		return bound, nil
	}
	all, err := Addresses()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: cluster.bind is %s, and this machine has no address but loopback: connect it, or set cluster.advertise", ErrBind, bound)
	}
	return all[0].IP, nil
}
