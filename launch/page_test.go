package launch_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/launch"
	"github.com/agrdist/agrdist/status"
)

// A run that serves its page can be looked at and stopped by it; the address is gone
// when the run is.
func TestPageLooksAndStops(t *testing.T) {
	c := tiny(t, "cluster.workers=1", "train.steps=1000000", "checkpoint.every=0")
	links := make(chan string, 1)
	type end struct {
		out launch.Outcome
		err error
	}
	ended := make(chan end, 1)
	go func() {
		out, err := launch.Run(t.Context(), launch.Options{Config: c, Page: func(link string) { links <- link }})
		ended <- end{out, err}
	}()
	require.Contains(t, <-links, "http://127.0.0.1:")
	all := status.Endpoints(c.Out)
	require.Len(t, all, 1)
	client := status.Client{URL: all[0].URL, Token: all[0].Token}
	require.Eventually(t, func() bool {
		v, err := client.View(t.Context(), all[0].Run)
		return err == nil && v.Live && v.Step > 0 && v.Health == status.Healthy
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, client.Stop(t.Context(), all[0].Run))
	e := <-ended
	require.NoError(t, e.err)
	require.Equal(t, launch.Stopped, e.out.Ending)
	require.Positive(t, e.out.Step)
	require.Empty(t, status.Endpoints(c.Out))
	tb, err := filepath.Glob(filepath.Join(c.Out, "tb", "events.out.tfevents.*"))
	require.NoError(t, err)
	require.NotEmpty(t, tb)
}

func TestPageIsRefusedBeforeTheRun(t *testing.T) {
	c := tiny(t, "dashboard.bind=nonsense")
	_, err := launch.Run(t.Context(), launch.Options{Config: c, Page: func(string) {}})
	var refused *config.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "HOST:PORT")
	require.ErrorContains(t, err, "dashboard.bind")
}

// The page answers with the certificate that was given, and clients of the run's directory
// still know its key.
func TestPageCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	leaf := writeCertificate(t, cert, key)
	c := tiny(t, "cluster.workers=1", "train.steps=1000000", "checkpoint.every=0", "dashboard.cert_file="+cert, "dashboard.key_file="+key)
	links := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := launch.Run(t.Context(), launch.Options{Config: c, Page: func(link string) { links <- link }})
		ended <- err
	}()
	require.Contains(t, <-links, "https://127.0.0.1:")
	all := status.Endpoints(c.Out)
	require.Len(t, all, 1)
	connection, err := tls.Dial("tcp", strings.TrimPrefix(all[0].URL, "https://"), all[0].TLS())
	require.NoError(t, err)
	require.Equal(t, leaf, connection.ConnectionState().PeerCertificates[0].Raw)
	require.NoError(t, connection.Close())
	client := status.Client{URL: all[0].URL, Token: all[0].Token, TLS: all[0].TLS()}
	require.NoError(t, client.Stop(t.Context(), all[0].Run))
	require.NoError(t, <-ended)

	c = tiny(t, "dashboard.cert_file="+cert)
	_, err = launch.Run(t.Context(), launch.Options{Config: c, Page: func(string) {}})
	require.ErrorContains(t, err, "dashboard.key_file")
}

// writeCertificate writes a certificate for nobody in particular and its key.
func writeCertificate(t *testing.T, cert, key string) (leaf []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	leaf, err = x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return leaf
}
