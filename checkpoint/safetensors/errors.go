package safetensors

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInvalid is matched by every error about the contents of a file.
	ErrInvalid = errors.New("safetensors: invalid file")
	// ErrNotFound says that a file has no tensor of the name asked for.
	ErrNotFound = errors.New("safetensors: no such tensor")
)

// FormatError says what is wrong with a file, and where.
type FormatError struct {
	Path   string // "" if the file was not opened by name
	Key    string // the tensor or metadata key concerned, "" if none
	Offset int64  // in bytes from the start of the file
	Reason string
	Err    error // the cause, if another package found it
}

// Error gives one line: file, key, offset, reason.
func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString("safetensors: ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "key %q: ", shorten(e.Key))
	}
	fmt.Fprintf(&b, "at byte %d: %s", e.Offset, e.Reason)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// Is makes every FormatError match ErrInvalid.
func (e *FormatError) Is(target error) bool { return target == ErrInvalid }

// shorten keeps a hostile key from filling the terminal.
func shorten(s string) string {
	const limit = 120
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
