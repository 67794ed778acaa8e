package data

import (
	"fmt"
	"time"
)

// MissingError says that a data set's files are not there.
type MissingError struct {
	Path   string // what was looked for
	Reason string // empty: it was not found
	Fix    string // where to get it, or what to set
	Err    error  // nil, or the system's error
}

func (e *MissingError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("%s: %v; %s", quoted(e.Path), plain(e.Err), e.Fix)
	case e.Reason != "":
		return fmt.Sprintf("%s %s; %s", quoted(e.Path), e.Reason, e.Fix)
	}
	return fmt.Sprintf("%s: not found; %s", quoted(e.Path), e.Fix)
}

// Unwrap returns the system's error.
func (e *MissingError) Unwrap() error { return e.Err }

// CorruptError says that a file is there and is not what it should be.
type CorruptError struct {
	Path   string
	Offset int64  // byte at which it stops making sense, or -1
	Reason string // what is wrong
	Fix    string // what to do about it
	Err    error  // nil, or the decoder's error
}

func (e *CorruptError) Error() string {
	text := quoted(e.Path)
	if e.Offset >= 0 {
		text = fmt.Sprintf("%s: byte %d", text, e.Offset)
	}
	text += ": " + e.Reason
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, plain(e.Err))
	}
	return text + "; " + e.Fix
}

// Unwrap returns the decoder's error.
func (e *CorruptError) Unwrap() error { return e.Err }

// StalledError says that a read has not come back.
type StalledError struct {
	Path  string
	After time.Duration
}

func (e *StalledError) Error() string {
	return fmt.Sprintf("%s: reading it has not come back for %s; is its file system (or the server behind it) alive?", quoted(e.Path), e.After)
}
