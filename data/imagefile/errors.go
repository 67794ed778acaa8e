package imagefile

import "fmt"

// Fault is a kind of failure.
type Fault string

// Faults of a file's contents.
const (
	Empty    Fault = "empty"                   // no byte
	Damaged  Fault = "damaged"                 // of a format that is read, and does not decode
	TooLarge Fault = "too many pixels"         // more than the caller takes
	NotRead  Fault = "format that is not read" // another format, or a variant that no decoder here has
)

// Error says why a file is not an image that can be used.
type Error struct {
	Fault  Fault
	Detail string // one line
}

func (e *Error) Error() string { return e.Detail }

func fault(f Fault, format string, args ...any) *Error {
	return &Error{Fault: f, Detail: fmt.Sprintf(format, args...)}
}
