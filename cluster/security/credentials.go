package security

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

var (
	// ErrWrongSecret reports a peer whose certificate another secret signed.
	ErrWrongSecret = errors.New("security: the peer holds another secret")
	// ErrWrongRun reports a peer of another run that shares the secret.
	ErrWrongRun = errors.New("security: the peer belongs to another run")
	// ErrClockSkew reports a peer whose certificate is not valid at this time.
	ErrClockSkew = errors.New("security: the clocks differ too much")
	// ErrPlaintext reports a peer that does not speak TLS.
	ErrPlaintext = errors.New("security: the peer speaks no TLS")
	// ErrRefused reports a peer that refused this process's certificate.
	ErrRefused = errors.New("security: the peer refused this process")
)

// ServerCredentials returns gRPC credentials that require TLS 1.3 and a client
// certificate of the same secret and run.
func (k *Keys) ServerCredentials() credentials.TransportCredentials {
	return explained{credentials.NewTLS(k.serverTLS()), k.files != nil}
}

// ClientCredentials returns gRPC credentials that require TLS 1.3 and a server
// certificate of the same secret and run, and present one.
func (k *Keys) ClientCredentials() credentials.TransportCredentials {
	return explained{credentials.NewTLS(k.clientTLS()), k.files != nil}
}

func (k *Keys) serverTLS() *tls.Config {
	c := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		Time:             k.now,
		ClientAuth:       tls.RequireAndVerifyClientCert,
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.certificate() },
		VerifyConnection: k.verifyRun,
		// A resumed session would skip nothing (VerifyConnection runs on it too),
		// but tickets outlive certificates, and connections here are few and long.
		SessionTicketsDisabled: true,
	}
	// The authorities are those of now, not those of the start.
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		p, err := k.trust()
		now := c.Clone()
		now.GetConfigForClient, now.ClientCAs, now.NextProtos = nil, p.pool, []string{"h2"}
		return now, err
	}
	return c
}

func (k *Keys) clientTLS() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		Time:                 k.now,
		ServerName:           serverName,
		InsecureSkipVerify:   true, //nolint:gosec // VerifyConnection verifies, by the authorities of now
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.certificate() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := k.verifyServer(cs); err != nil {
				return err
			}
			return k.verifyRun(cs)
		},
	}
}

// verifyServer checks a server's certificate against the authorities of now. Which
// address was dialled says nothing: nodes are known by the name in the certificate.
func (k *Keys) verifyServer(cs tls.ConnectionState) error {
	p, err := k.trust()
	if err != nil || len(cs.PeerCertificates) == 0 {
		return err // without a certificate verifyRun refuses
	}
	return verify(cs.PeerCertificates, p.pool, x509.ExtKeyUsageServerAuth, k.now())
}

// verifyRun runs after the chain has been verified, on full and on resumed handshakes.
func (k *Keys) verifyRun(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it showed no certificate", ErrRefused)
	}
	id, ok := identityOf(cs.PeerCertificates[0])
	anyRun := ok && k.files != nil && id.RunID == ""
	if !anyRun && (!ok || id.RunID != k.id.RunID) {
		return fmt.Errorf("%w: this one is %q, the peer's is %q (run id: name of the run, equal on every node)",
			ErrWrongRun, k.id.RunID, id.RunID)
	}
	return nil
}

// PeerIdentity returns who is at the other end of the gRPC call ctx belongs to;
// false without mutual TLS.
func PeerIdentity(ctx context.Context) (Identity, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return Identity{}, false
	}
	return identityOf(info.State.PeerCertificates[0])
}

// explained adds to TLS credentials what a refusal means and how to fix it.
type explained struct {
	credentials.TransportCredentials
	files bool // certificates come from files
}

var _ credentials.TransportCredentials = explained{}

// ClientHandshake expects the one name that all certificates carry; gRPC would
// put the address that was dialled in its place.
func (e explained) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ClientHandshake(ctx, serverName, raw)
	return conn, info, e.explain(raw, err)
}

func (e explained) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ServerHandshake(raw)
	return conn, info, e.explain(raw, err)
}

func (e explained) Clone() credentials.TransportCredentials {
	return explained{e.TransportCredentials.Clone(), e.files}
}

const (
	sameOnAll = "AGRDIST_CLUSTER_SECRET or cluster.secret_file must be the same on every node"
	oneCA     = "the cluster.ca_file of every node must have the authority of all nodes' certificates, and every node must have cluster.cert_file or none"
)

// explain names the peer and the likely mistake behind a failed handshake.
func (e explained) explain(conn net.Conn, err error) error {
	if err == nil {
		return nil
	}
	fix, clocks := sameOnAll, "set the clocks of both hosts, by NTP or chrony"
	if e.files {
		fix, clocks = oneCA, "make a new one with agrdist pki issue, or set the clocks of both hosts"
	}
	at := "peer " + conn.RemoteAddr().String()
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.Is(err, ErrWrongRun), errors.Is(err, ErrRefused):
		return fmt.Errorf("%s: %w", at, err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%s: %w: %s (%w)", at, ErrWrongSecret, fix, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%s: %w: %s (%w)", at, ErrClockSkew, clocks, err)
	case errors.As(err, &header), strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return fmt.Errorf("%s: %w: %s (%w)", at, ErrPlaintext, fix, err)
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return fmt.Errorf("%s: %w: it holds another secret, or belongs to another run; %s (%w)", at, ErrRefused, fix, err)
	default:
		return fmt.Errorf("security: TLS handshake with %s: %w", at, err)
	}
}
