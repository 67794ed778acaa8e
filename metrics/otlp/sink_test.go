package otlp

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/agrdist/agrdist/metrics"
)

// receiver is a collector: OTLP's own gRPC service, of its generated code.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans map[string]*traces.Span // by name
	count int
	run   string
}

func (r *receiver) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range q.GetResourceSpans() {
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "agrdist.run" {
				r.run = a.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				r.spans[s.GetName()] = s
				r.count++
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func receive(t *testing.T) (*receiver, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r, server := &receiver{spans: map[string]*traces.Span{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return r, l.Addr().String()
}

func attributes(s *traces.Span) map[string]any {
	out := map[string]any{}
	for _, a := range s.GetAttributes() {
		v := a.GetValue()
		switch {
		case v.GetStringValue() != "":
			out[a.GetKey()] = v.GetStringValue()
		case v.GetDoubleValue() != 0:
			out[a.GetKey()] = v.GetDoubleValue()
		default:
			out[a.GetKey()] = v.GetIntValue()
		}
	}
	return out
}

func TestSpansReachACollector(t *testing.T) {
	r, addr := receive(t)
	s, err := New(Config{Endpoint: addr, Insecure: true, Run: "digits", Version: "v"})
	require.NoError(t, err)
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	write := func(after time.Duration, e metrics.Event) {
		e.Time = begin.Add(after).Format("2006-01-02T15:04:05.000Z07:00")
		require.NoError(t, s.Write(e))
	}
	write(0, metrics.Event{Event: metrics.EventGeneration, Generation: 1, WorldSize: 2, Members: []string{"n/0", "n/1"}, Reason: "2 workers registered"})
	write(0, metrics.Event{Event: metrics.EventStart, Steps: 9, ConfigHash: "c"})
	for i := range 6 {
		write(time.Duration(i+1)*time.Second, metrics.Event{Event: metrics.EventStep, Step: int64(i + 1), StepMillis: 1000})
	}
	write(8500*time.Millisecond, metrics.Event{Event: metrics.EventCheckpoint, Step: 6, Path: "p"})
	write(20*time.Second, metrics.Event{Event: metrics.EventStep, Step: 7, StepMillis: 9000, Compute: []float64{500, 8800}})
	write(21*time.Second, metrics.Event{Event: metrics.EventFinish, Step: 7, ModelDigest: "d"})
	require.NoError(t, s.Close())

	require.Equal(t, "digits", r.run)
	require.Equal(t, 4, r.count, "a step that went well has no span")
	run, generation, checkpoint, stalled := r.spans["run"], r.spans["generation"], r.spans["checkpoint"], r.spans["stalled step"]
	require.Equal(t, "d", attributes(run)["agrdist.model_digest"])
	require.Equal(t, run.GetSpanId(), generation.GetParentSpanId())
	require.Equal(t, generation.GetSpanId(), checkpoint.GetParentSpanId())
	require.Equal(t, "2 workers registered", attributes(generation)["agrdist.reason"])
	length := func(s *traces.Span) time.Duration {
		return time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
	}
	require.Equal(t, 21*time.Second, length(run))
	require.Equal(t, 2500*time.Millisecond, length(checkpoint), "from the step's end until it was durable")
	require.Equal(t, 9*time.Second, length(stalled))
	require.EqualValues(t, 1, attributes(stalled)["agrdist.culprit_rank"])
}

// A collector that is not there costs nothing but a warning.
func TestNoCollector(t *testing.T) {
	s, err := New(Config{Endpoint: "127.0.0.1:1", Insecure: true})
	require.NoError(t, err)
	began := time.Now()
	for i := range 5000 {
		require.NoError(t, s.Write(metrics.Event{Event: metrics.EventSample, Step: int64(i)}))
	}
	require.NoError(t, s.Close())
	require.Less(t, time.Since(began), 30*time.Second)
}
