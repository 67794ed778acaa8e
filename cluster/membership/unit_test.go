package membership

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

func fullMeta() Meta {
	return Meta{
		Node: "n", Host: "h", Devices: 300, Build: "b", ConfigHash: "c", Phase: "p",
		CoordinatorAddr: "a:1", CoordinatorTerm: 1 << 63, leaving: true,
		EndOutcome: 2, EndCode: 143, EndStep: -1, EndDigest: "d", EndReason: "r", Secrets: "s",
	}
}

// The wire format is a promise to other builds: a change needs a new version.
func TestMetaGolden(t *testing.T) {
	data, err := fullMeta().Encode()
	require.NoError(t, err)
	require.Equal(t, "01"+"01016e"+"020168"+"0302ac02"+"040162"+"050163"+"060170"+"0703613a31"+
		"080a80808080808080808001"+"090101"+"0a0102"+"0b028f01"+"0d0164"+"0e0172"+"0f0173", hex.EncodeToString(data))
	back, err := DecodeMeta(data)
	require.NoError(t, err)
	require.Equal(t, fullMeta(), back)

	later := append(data, 200, 2, 'x', 'y') // a field of a later build
	back, err = DecodeMeta(later)
	require.NoError(t, err)
	require.Equal(t, fullMeta(), back)
}

func TestMetaRefusals(t *testing.T) {
	_, err := Meta{Host: strings.Repeat("h", MaxMeta)}.Encode()
	require.ErrorIs(t, err, ErrMeta)
	require.ErrorContains(t, err, "at most 512")
	_, err = Meta{Devices: -1}.Encode()
	require.ErrorIs(t, err, ErrMeta)
	_, err = Meta{Phase: "\xff"}.Encode()
	require.ErrorIs(t, err, ErrMeta)
	for name, data := range map[string]string{
		"empty": "", "other version": "\x02", "no length": "\x01\x01", "truncated": "\x01\x01\x05abc",
		"twice": "\x01\x01\x01a\x01\x01b", "descending": "\x01\x02\x01a\x01\x01b", "bad UTF-8": "\x01\x01\x01\xff",
		"no number": "\x01\x03\x01\x80", "long number": "\x01\x03\x02\x01\x01", "too many devices": "\x01\x03\x04\xff\xff\xff\x7f",
		"huge length": "\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "too long": "\x01" + strings.Repeat("\x00", MaxMeta),
	} {
		_, err := DecodeMeta([]byte(data))
		require.ErrorIs(t, err, ErrMeta, name)
	}
	require.Error(t, callbacks{}.NotifyAlive(&memberlist.Node{Meta: []byte("junk")}), "a stranger's meta is kept out")
}

func FuzzDecodeMeta(f *testing.F) {
	data, err := fullMeta().Encode()
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{metaVersion})
	f.Add([]byte("\x01\x01\x05abc"))
	f.Add([]byte{metaVersion, tagEndStep, 1, 0}) // a step without an outcome
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMeta(data)
		if err != nil {
			return
		}
		again, err := m.Encode() // never longer: it drops unknown and empty fields
		require.NoError(t, err)
		back, err := DecodeMeta(again)
		require.NoError(t, err)
		require.Equal(t, m, back)
	})
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.RunID, good.Node = "run", "node"
	good.Seeds = []string{"host", "host:1", "10.0.0.1", "[::1]:7946", "::1", "[fe80::1]"}
	require.NoError(t, good.Validate())
	require.NoError(t, Config{RunID: "run", Node: "node"}.Validate(), "zero values have defaults")
	for want, change := range map[string]func(*Config){
		"run id":          func(c *Config) { c.RunID = "" },
		"node name":       func(c *Config) { c.Node = "a/b" },
		"bind port":       func(c *Config) { c.BindPort = 70000 },
		"advertise port":  func(c *Config) { c.AdvertisePort = -1 },
		`seed "host:"`:    func(c *Config) { c.Seeds = []string{"host:"} },
		`seed "a:b:c"`:    func(c *Config) { c.Seeds = []string{"a:b:c"} },
		`seed ""`:         func(c *Config) { c.Seeds = []string{""} },
		"17 bytes, want":  func(c *Config) { c.SecretKey = make([]byte, 17) },
		"probe interval":  func(c *Config) { c.ProbeTimeout = time.Second },
		"suspicion":       func(c *Config) { c.SuspicionMult = -1 },
		"rejoin interval": func(c *Config) { c.RejoinInterval = -1 },
		"membership: meta": func(c *Config) {
			c.Meta.Devices = -1
		},
	} {
		bad := good
		change(&bad)
		require.ErrorContains(t, bad.Validate(), want)
		_, err := Start(t.Context(), bad)
		require.Error(t, err)
	}
}

func TestSplitSeed(t *testing.T) {
	for seed, want := range map[string]string{"host": "host:7946", "host:1": "host:1", "::1": "[::1]:7946", "[::1]:9": "[::1]:9"} {
		host, port, err := splitSeed(seed)
		require.NoError(t, err, seed)
		require.Equal(t, want, net.JoinHostPort(host, strconv.Itoa(int(port))), seed)
	}
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	h := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	logger := slog.NewLogLogger(levelHandler{h}, slog.LevelDebug)
	for _, line := range []string{
		"[DEBUG] memberlist: quiet", "[INFO] memberlist: suspect", "[WARN] memberlist: odd",
		"[ERR] memberlist: bad peer", "[ERROR] memberlist: too", "Err: no prefix", "[bracket",
	} {
		logger.Print(line)
	}
	require.Equal(t, `level=INFO msg=gossip detail=suspect
level=WARN msg=gossip detail=odd
level=WARN msg=gossip detail="bad peer"
level=WARN msg=gossip detail=too
level=WARN msg=gossip detail="Err: no prefix"
level=WARN msg=gossip detail=[bracket
`, out.String())
}

func TestEventQueueKeepsTheLatest(t *testing.T) {
	q := newEventQueue()
	node := func(name string, devices int) Node { return Node{Name: name, Meta: Meta{Devices: devices}} }
	q.push(Event{Joined, node("a", 1)})
	q.push(Event{Joined, node("b", 1)})
	q.push(Event{Updated, node("a", 2)}) // still unheard of: joined, with the new meta
	q.push(Event{Failed, node("b", 1)})
	e, ok := q.pop()
	require.True(t, ok)
	require.Equal(t, Event{Joined, node("a", 2)}, e)
	q.push(Event{Updated, node("a", 3)})
	e, _ = q.pop()
	require.Equal(t, Event{Failed, node("b", 1)}, e)
	e, _ = q.pop()
	require.Equal(t, Event{Updated, node("a", 3)}, e)
	_, ok = q.pop()
	require.False(t, ok)
	require.Equal(t, "joined updated left failed EventKind(9)",
		strings.Join([]string{Joined.String(), Updated.String(), Left.String(), Failed.String(), EventKind(9).String()}, " "))
}

// A dial that hangs and a stream that stalls end at cut, not at their deadlines.
func TestCutEndsDialsAndStreams(t *testing.T) {
	c := newCutter(nil)
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	hung := errors.New("hung up")
	entered := make(chan struct{})
	c.dial = func(ctx context.Context, addr string, _ time.Duration) (net.Conn, error) {
		if addr == "good" {
			return near, nil
		}
		close(entered)
		<-ctx.Done()
		return nil, hung
	}
	conn, err := c.DialTimeout("good", time.Hour)
	require.NoError(t, err)
	results := make(chan error, 2)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		results <- err
	}()
	go func() {
		_, err := c.DialTimeout("bad", time.Hour)
		results <- err
	}()
	<-entered
	c.cut()
	require.Error(t, <-results)
	require.Error(t, <-results)
	_, err = c.DialTimeout("good", time.Hour)
	require.ErrorIs(t, err, ErrStopped)
	require.NoError(t, conn.Close())
	require.Empty(t, c.ends)
}
