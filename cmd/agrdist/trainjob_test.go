package main

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/status/trainjob"
)

// A run in a pod of a TrainJob tells its progress, the end last, and a status server that
// refuses does not disturb it.
func TestTrainJob(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		said []map[string]any
	)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var body struct{ TrainerStatus map[string]any }
		if r.Header.Get("Authorization") != "Bearer secret" || json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if said = append(said, body.TrainerStatus); len(said) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(token, []byte("secret"), 0o600))
	env := []string{trainjob.EnvURL + "=" + server.URL, trainjob.EnvCACert + "=" + ca, trainjob.EnvToken + "=" + token}
	startEnv(t, env, training(filepath.Join(dir, "run"))...).ended(0)

	mu.Lock()
	defer mu.Unlock()
	require.GreaterOrEqual(t, len(said), 2)
	last := said[len(said)-1]
	require.EqualValues(t, 100, last["progressPercentage"])
	require.EqualValues(t, 0, last["estimatedRemainingSeconds"])
	require.Len(t, last["metrics"], 6)
}
