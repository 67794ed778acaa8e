//go:build unix

package preflight

import "fmt"

// Error is one thing that is wrong, and how to fix it.
type Error struct {
	Check   string // "dns" or "dial"
	Subject string // the peer's address
	Err     error  // what is wrong
	Fix     string // what to do about it
}

// Error says all of it on one line.
func (p *Error) Error() string {
	return fmt.Sprintf("preflight: %s %s: %v: %s", p.Check, p.Subject, p.Err, p.Fix)
}

// Unwrap returns what is wrong.
func (p *Error) Unwrap() error { return p.Err }

// Problems returns the Errors in err, however they were joined or wrapped.
func Problems(err error) []*Error {
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, sub := range e.Unwrap() {
			all = append(all, Problems(sub)...)
		}
		return all
	case interface{ Unwrap() error }:
		return Problems(e.Unwrap())
	default:
		return nil
	}
}
