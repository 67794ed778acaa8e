package main

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// names are the spans that a collector got, by name.
type names struct {
	collector.UnimplementedTraceServiceServer

	mu  sync.Mutex
	got map[string]int
}

func (n *names) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range q.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				n.got[span.GetName()]++
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// A real run sends its spans to a real collector's service; a collector that is not there
// changes nothing.
func TestTraces(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n, server := &names{got: map[string]int{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, n)
	go func() { _ = server.Serve(l) }() // until Stop
	t.Cleanup(server.Stop)

	dir := filepath.Join(t.TempDir(), "run")
	traced := func(dir, addr string) *process {
		return start(t, training(dir, "--workers", "2", "--set", "telemetry.otlp="+addr, "--set", "telemetry.insecure=true")...).ended(exitOK)
	}
	traced(dir, l.Addr().String())
	n.mu.Lock()
	require.Equal(t, 1, n.got["run"], "%v", n.got)
	require.Equal(t, 1, n.got["generation"])
	require.Positive(t, n.got["checkpoint"])
	require.Positive(t, n.got["sample"])
	n.mu.Unlock()

	other := filepath.Join(t.TempDir(), "run")
	p := traced(other, "127.0.0.1:1")
	require.Contains(t, p.stderr.String(), "traces are not sent")
	require.Contains(t, run(t, training(filepath.Join(t.TempDir(), "x"), "--set", "telemetry.otlp=nowhere")...).ended(exitConfig).stderr.String(), "must be HOST:PORT")
}
