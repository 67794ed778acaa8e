package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/agrdist/agrdist/metrics"
)

// Config says where spans go.
type Config struct {
	Endpoint string // HOST:PORT of a collector that speaks OTLP over gRPC
	// Insecure is without TLS. With it the collector's certificate must be one that the
	// system trusts. Headers come from OTEL_EXPORTER_OTLP_HEADERS, as with every SDK.
	Insecure bool
	Run      string // the run's name
	Version  string
	Log      *slog.Logger
}

// A step has stalled when it took this many times as long as the median of the steps
// before it, and a second more.
const (
	stallFactor = 3
	stallMore   = time.Second
	window      = 64 // steps of the median
)

// closeTime bounds how long the end of a run waits for the collector.
const closeTime = 3 * time.Second

// Sink is a metrics.Sink.
type Sink struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
	warned   sync.Once
	endpoint string

	run, generation trace.Span    // under way; nil: none
	last            metrics.Event // the newest step
	times           []float64     // of the last steps, milliseconds
}

var _ metrics.Sink = (*Sink)(nil)

// New returns a sink. It does not wait for the collector, which may come later.
func New(c Config) (*Sink, error) {
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
	if c.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("otlp: telemetry.otlp %s: %w", c.Endpoint, err)
	}
	s := &Sink{log: c.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "agrdist"), attribute.String("service.version", c.Version), attribute.String("agrdist.run", c.Run),
	)))
	s.tracer = s.provider.Tracer("github.com/agrdist/agrdist")
	s.endpoint = c.Endpoint
	otel.SetErrorHandler(otel.ErrorHandlerFunc(s.warn))
	return s, nil
}

// warn says once that spans are lost.
func (s *Sink) warn(err error) {
	s.warned.Do(func() {
		s.log.Warn("traces are not sent; the run does not depend on them", "collector", s.endpoint, "err", err)
	})
}

// Write makes spans of an event.
func (s *Sink) Write(e metrics.Event) error {
	at := e.When()
	if at.IsZero() {
		at = time.Now()
	}
	switch e.Event {
	case metrics.EventGeneration:
		s.begin(at)
		s.endGeneration(at)
		_, s.generation = s.tracer.Start(trace.ContextWithSpan(context.Background(), s.run), "generation", trace.WithTimestamp(at), trace.WithAttributes(
			attribute.Int64("agrdist.generation", int64(e.Generation)), attribute.Int("agrdist.world_size", e.WorldSize),
			attribute.StringSlice("agrdist.members", e.Members), attribute.String("agrdist.reason", e.Reason), attribute.Int64("agrdist.step", e.Step),
		))
	case metrics.EventStart:
		s.begin(at)
		s.run.SetAttributes(attribute.Int64("agrdist.steps", e.Steps), attribute.String("agrdist.config_hash", e.ConfigHash),
			attribute.String("agrdist.backend", e.Backend), attribute.Int("agrdist.parameters", e.Parameters))
	case metrics.EventStep:
		s.step(e, at)
	case metrics.EventCheckpoint, metrics.EventSample:
		from := at
		if s.last.Step == e.Step { // it began when the step was done
			from = s.last.When()
		}
		s.span(e.Event, from, at, attribute.Int64("agrdist.step", e.Step), attribute.String("agrdist.path", e.Path))
	case metrics.EventSkip:
		if s.run != nil {
			s.current().AddEvent("step skipped", trace.WithTimestamp(at), trace.WithAttributes(
				attribute.Int64("agrdist.step", e.Step), attribute.Int("agrdist.in_a_row", e.InARow), attribute.IntSlice("agrdist.chunks", e.Chunks)))
		}
	case metrics.EventStop, metrics.EventFinish:
		if s.run != nil {
			s.run.SetAttributes(attribute.String("agrdist.model_digest", e.ModelDigest))
			s.run.SetStatus(codes.Ok, "")
		}
		s.end(at)
	}
	return nil
}

// begin begins the run's span.
func (s *Sink) begin(at time.Time) {
	if s.run == nil {
		_, s.run = s.tracer.Start(context.Background(), "run", trace.WithTimestamp(at))
	}
}

// current is the innermost span under way.
func (s *Sink) current() trace.Span {
	if s.generation != nil {
		return s.generation
	}
	return s.run
}

func (s *Sink) endGeneration(at time.Time) {
	if s.generation != nil {
		s.generation.End(trace.WithTimestamp(at))
		s.generation = nil
	}
}

func (s *Sink) end(at time.Time) {
	s.endGeneration(at)
	if s.run != nil {
		s.run.End(trace.WithTimestamp(at))
		s.run = nil
	}
}

func (s *Sink) span(name string, from, to time.Time, attributes ...attribute.KeyValue) {
	ctx := context.Background()
	if s.generation != nil {
		ctx = trace.ContextWithSpan(ctx, s.generation)
	}
	_, span := s.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(to))
}

// step makes a span of a step that stalled, with the rank that held it up where the step
// was measured.
func (s *Sink) step(e metrics.Event, at time.Time) {
	s.last = e
	if len(s.times) >= 5 {
		sorted := slices.Sorted(slices.Values(s.times))
		median := sorted[len(sorted)/2]
		if e.StepMillis > max(stallFactor*median, median+float64(stallMore.Milliseconds())) {
			attributes := []attribute.KeyValue{
				attribute.Int64("agrdist.step", e.Step), attribute.Float64("agrdist.step_ms", e.StepMillis), attribute.Float64("agrdist.median_ms", median),
			}
			if n := len(e.Compute); n > 0 {
				culprit := 0
				for rank, ms := range e.Compute {
					if ms > e.Compute[culprit] {
						culprit = rank
					}
				}
				attributes = append(attributes, attribute.Int("agrdist.culprit_rank", culprit), attribute.Float64("agrdist.culprit_ms", e.Compute[culprit]))
			}
			s.span("stalled step", at.Add(-time.Duration(e.StepMillis*float64(time.Millisecond))), at, attributes...)
		}
	}
	if len(s.times) == window {
		s.times = slices.Delete(s.times, 0, 1)
	}
	s.times = append(s.times, e.StepMillis)
}

// Close ends what is under way and sends what is left, for a few seconds at most.
func (s *Sink) Close() error {
	s.end(time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := s.provider.Shutdown(ctx); err != nil {
		s.warn(err)
	}
	return nil
}
