package launch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/config"
)

func TestPageClient(t *testing.T) {
	cfg := func(secret string) *config.Config {
		var c config.Config
		c.Cluster.Secret, c.Cluster.RunID = secret, "digits"
		return &c
	}
	const secret = "0123456789abcdef0123456789abcdef"
	token, err := PageToken(cfg(secret))
	require.NoError(t, err)
	for _, c := range []struct {
		secret, where, token string
		url, sent            string
	}{
		{"", "127.0.0.1:8081", "t", "http://127.0.0.1:8081", "t"},
		{"", "localhost:8081", "t", "http://localhost:8081", "t"},
		{"", "10.0.0.1:8081", "t", "https://10.0.0.1:8081", "t"},
		{secret, "10.0.0.1:8081", "", "https://10.0.0.1:8081", token},
		{secret, "10.0.0.1:8081", "t", "https://10.0.0.1:8081", "t"},
		{secret, "https://127.0.0.1:8081/", "", "https://127.0.0.1:8081", token},
	} {
		p, err := PageClient(cfg(c.secret), c.where, c.token)
		require.NoError(t, err, c)
		require.Equal(t, c.url, p.URL, c)
		require.Equal(t, c.sent, p.Token, c)
	}
	for _, where := range []string{"http://10.0.0.1:8081", "ftp://127.0.0.1:21", "10.0.0.1", ""} {
		_, err := PageClient(cfg(secret), where, "t")
		require.Error(t, err, where)
	}
	_, err = PageClient(cfg("short"), "10.0.0.1:8081", "")
	require.Error(t, err)
}
