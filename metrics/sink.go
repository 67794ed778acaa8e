package metrics

import "errors"

// Sink takes events: a file of JSON lines (Log), TensorBoard's, or several at once
// (Fan). Write is called from one goroutine at a time and stamps an event that has
// no time yet.
type Sink interface {
	Write(e Event) error
	Close() error
}

var (
	_ Sink = (*Log)(nil)
	_ Sink = Fan(nil)
)

// Fan hands every event to all of its sinks. A sink that fails does not keep an
// event from the others.
type Fan []Sink

// Write hands e to every sink and returns their errors, joined.
func (f Fan) Write(e Event) error {
	stamp(&e)
	var errs []error
	for _, s := range f {
		errs = append(errs, s.Write(e))
	}
	return errors.Join(errs...)
}

// Close closes every sink.
func (f Fan) Close() error {
	var errs []error
	for _, s := range f {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
