package npz

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
)

// Bytes writes an archive of one uint8 array that comes in pieces: images, as
// reference batches of image metrics are passed on.
type Bytes struct {
	z    *zip.Writer
	b    *bufio.Writer
	left int64
}

// NewBytes begins the archive. As many bytes as the shape has elements must be
// written, in C order, and then it must be closed.
func NewBytes(w io.Writer, name string, shape ...int) (*Bytes, error) {
	z := zip.NewWriter(w)
	entry, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
	if err != nil {
		return nil, fmt.Errorf("npz: %w", err)
	}
	a := &Bytes{z: z, b: bufio.NewWriter(entry), left: 1}
	for _, d := range shape {
		a.left *= int64(d)
	}
	_, _ = a.b.Write(header("|u1", shape)) // an error stays with b until Flush
	return a, nil
}

// Write writes the next elements.
func (a *Bytes) Write(p []byte) (int, error) {
	if int64(len(p)) > a.left {
		return 0, fmt.Errorf("npz: %d bytes where %d are left", len(p), a.left)
	}
	n, err := a.b.Write(p)
	a.left -= int64(n)
	if err != nil {
		return n, fmt.Errorf("npz: %w", err)
	}
	return n, nil
}

// Close ends the archive. The writer below stays open.
func (a *Bytes) Close() error {
	if a.left > 0 {
		return fmt.Errorf("npz: closed %d bytes short", a.left)
	}
	if err := a.b.Flush(); err != nil {
		return fmt.Errorf("npz: %w", err)
	}
	if err := a.z.Close(); err != nil {
		return fmt.Errorf("npz: %w", err)
	}
	return nil
}
