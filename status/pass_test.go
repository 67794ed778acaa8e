package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Connections over which no token comes, more than there is room for, keep nobody out who
// has one, and a connection that has shown one is no stranger's any more.
func TestStrangersAtThePage(t *testing.T) {
	s, base := serving(t, Config{Runs: One(NewRun("r", example(t)))})
	addr := strings.TrimPrefix(base, "http://")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		return c
	}
	known := dial()
	get := func() (int, error) {
		if _, err := fmt.Fprintf(known, "GET /api/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", token); err != nil {
			return 0, err
		}
		r, err := http.ReadResponse(bufio.NewReader(known), nil)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, r.Body)
		return r.StatusCode, errors.Join(err, r.Body.Close())
	}
	code, err := get()
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	first := dial()
	for range 2 * maxStrangers {
		dial()
	}
	require.Eventually(t, func() bool { return s.gate.Len() == maxStrangers }, 20*time.Second, time.Millisecond)
	_, err = first.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the oldest was sent away")
	code, err = get()
	require.NoError(t, err, "who has shown the token stays")
	require.Equal(t, http.StatusOK, code)
	code, _ = ask(t, http.MethodGet, base+"/api/runs", bearer)
	require.Equal(t, http.StatusOK, code)
}

// The tokens follow the run's secrets: of two both are accepted, and one that was replaced
// opens nothing, in no form.
func TestRekey(t *testing.T) {
	s, err := Listen(Config{Bind: "127.0.0.1:0", Token: "old", AlsoTokens: []string{"new"}, Runs: One(NewRun("r", example(t)))})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	base := "http://" + s.Addr()
	with := func(token string) (codes [3]int) {
		codes[0], _ = ask(t, http.MethodGet, base+"/api/runs", func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+token) })
		codes[1], _ = ask(t, http.MethodGet, base+"/api/runs", func(q *http.Request) { q.AddCookie(&http.Cookie{Name: cookie, Value: token}) })
		codes[2], _ = ask(t, http.MethodGet, base+"/?token="+token, nil)
		return codes
	}
	in, out := [3]int{200, 200, 303}, [3]int{401, 401, 401}
	require.Equal(t, in, with("old"))
	require.Equal(t, in, with("new"))
	e, err := s.Endpoint("")
	require.NoError(t, err)
	require.Equal(t, "old", e.Token)
	s.Rekey([]string{"new"}, nil)
	require.Equal(t, out, with("old"))
	require.Equal(t, in, with("new"))
	e, err = s.Endpoint("")
	require.NoError(t, err)
	require.Equal(t, "new", e.Token)
	cancel()
	require.NoError(t, <-done)
}
