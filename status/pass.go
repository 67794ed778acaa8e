package status

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/internal/gate"
)

// What strangers may hold: connections over which no token has come, probes among them.
const (
	maxStrangers = 256
	maxFromHost  = 64
	patience     = 10 * time.Second
)

// pass is what lets requests in, and what the server is known by.
type pass struct {
	tokens []string // accepted; the first is handed out
	pair   *tls.Certificate
}

// Rekey replaces the tokens, of which the first is handed out, and the certificate, which
// nil leaves as it is.
func (s *Server) Rekey(tokens []string, pair *tls.Certificate) {
	if pair == nil {
		pair = s.pass.Load().pair
	}
	s.pass.Store(&pass{tokens, pair})
}

// token is the one that is handed out.
func (s *Server) token() string { return s.pass.Load().tokens[0] }

// knows tells whether a token is accepted.
func (s *Server) knows(given string) bool {
	return slices.ContainsFunc(s.pass.Load().tokens, func(t string) bool {
		return subtle.ConstantTimeCompare([]byte(given), []byte(t)) == 1
	})
}

const cookie = "agrdist_token"

// guard lets through who has the token. A request that changes something must carry
// it in a header: a cookie travels with requests that other pages make.
func (s *Server) guard(next http.Handler) http.Handler {
	next = admitted(next)
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if bearer, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok && s.knows(bearer) {
			next.ServeHTTP(w, q)
			return
		}
		c, err := q.Cookie(cookie)
		known := err == nil && s.knows(c.Value)
		if q.Method != http.MethodGet && q.Method != http.MethodHead {
			if !known || !hmac.Equal([]byte(q.Header.Get("X-Csrf-Token")), []byte(s.csrf())) {
				http.Error(w, "a request that changes something needs the header Authorization: Bearer TOKEN", http.StatusForbidden)
				return
			}
		}
		if given := q.URL.Query().Get("token"); given != "" && s.knows(given) {
			http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where there is TLS; on loopback there is none
				Name: cookie, Value: s.token(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.cfg.TLS != nil,
			})
			// The token leaves the address bar and the history.
			http.Redirect(w, q, "/", http.StatusSeeOther)
			return
		}
		if known {
			next.ServeHTTP(w, q)
			return
		}
		http.Error(w, "open the address that agrdist printed, with its token; `agrdist status RUN` prints it again", http.StatusUnauthorized)
	})
}

// admitted tells the gate that the connection of a request is no stranger's.
func admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if c, ok := q.Context().Value(connKey{}).(net.Conn); ok {
			gate.Admit(c)
		}
		next.ServeHTTP(w, q)
	})
}

type connKey struct{} // of a request's connection, in its context

// csrf is what the page's own requests carry beside the cookie; other pages cannot
// read it.
func (s *Server) csrf() string {
	m := hmac.New(sha256.New, []byte(s.token()))
	m.Write([]byte("agrdist csrf"))
	return hex.EncodeToString(m.Sum(nil))
}
