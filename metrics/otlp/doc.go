// Package otlp sends what happens in a run as OpenTelemetry traces to a collector: a span
// for the run, for each generation, checkpoint and sample grid, and for steps that
// stalled. Steps that went well have none.
//
// Its one idea: it is a metrics.Sink like the others. What it knows is in events.jsonl, so
// nothing in training knows of it, and without the setting telemetry.otlp it is not made.
// Spans travel in the background and are dropped where the collector does not take them:
// a step never waits.
//
// What it does not do: it sends no metrics (the page's /metrics has them) and no logs.
package otlp
