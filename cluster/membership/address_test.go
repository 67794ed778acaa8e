package membership

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIPv4OfTheDefaultRouteFirst(t *testing.T) {
	a := func(ip, name string) Address { return Address{net.ParseIP(ip), name} }
	all := []Address{
		a("fd00::2", "eth0"), a("172.17.0.1", "docker0"), a("2001:db8:1::5", "eth1"), a("10.0.0.5", "eth1"), a("10.1.0.5", "ib0"),
	}
	sortAddresses(all, []net.IP{net.ParseIP("10.0.0.5"), net.ParseIP("2001:db8:1::5")})
	require.Equal(t, []Address{
		a("10.0.0.5", "eth1"), a("172.17.0.1", "docker0"), a("10.1.0.5", "ib0"), a("2001:db8:1::5", "eth1"), a("fd00::2", "eth0"),
	}, all)
	six := []Address{a("fd00::2", "eth0")}
	sortAddresses(six, nil)
	require.Equal(t, "fd00::2", six[0].IP.String(), "IPv6 where there is no IPv4")
}

func TestAdvertised(t *testing.T) {
	lo, other := net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 9)
	ip, err := advertised(lo, nil)
	require.NoError(t, err)
	require.Equal(t, lo, ip)
	ip, err = advertised(net.IPv4zero, other)
	require.NoError(t, err)
	require.Equal(t, other, ip, "what was asked for")
	all, err := Addresses()
	require.NoError(t, err)
	for _, unspecified := range []net.IP{net.IPv4zero, net.IPv6unspecified} {
		ip, err = advertised(unspecified, nil)
		if len(all) == 0 {
			require.ErrorIs(t, err, ErrBind)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, all[0].IP, ip)
		require.False(t, ip.IsLoopback() || ip.IsUnspecified())
	}
}
