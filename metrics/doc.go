// Package metrics is what a run tells the outside about itself: events.jsonl,
// one JSON object a line, written whole and at once as things happen.
//
// Every event has "event", "time" (UTC, RFC 3339 with milliseconds) and "step".
// Any process may append: lines of concurrent writers do not mix. The package
// draws nothing; the terminal's progress is cmd/agrdist's.
package metrics
