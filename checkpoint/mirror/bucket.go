package mirror

import (
	"context"
	"fmt"
	"io"
)

// Bucket is a place in an object store, below a prefix of its own. Keys have the form
// NAME/NAME. Safe for concurrent use.
type Bucket interface {
	// Put stores the file at path under a key: whole, or not at all.
	Put(ctx context.Context, key, path string) error
	// Get opens what is stored under a key; fs.ErrNotExist where there is nothing.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// List returns what is stored under keys that begin so, in any order.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes what is stored under a key; nothing there is no error.
	Delete(ctx context.Context, key string) error
	// Abort frees what uploads have left that never came to their end.
	Abort(ctx context.Context) error
	// String is the place as people write it, without a slash at the end.
	String() string
}

// Object is something that is stored.
type Object struct {
	Key  string
	Size int64
}

// Error says what the object store refuses, and how to fix it.
type Error struct {
	Place string // Bucket.String
	Op    string // "store step-600/model.safetensors", ...
	Err   error
	// Advice says what a person can do; "" where waiting is all.
	Advice string
	// Permanent is set where the same request will fail again until somebody changes
	// something: no such bucket, no permission.
	Permanent bool
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s: %v", e.Place, e.Op, e.Err)
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
