package suite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/agrdist/agrdist/internal/filelock"
)

// A work file is its blocks, one after another, appended as they are finished:
//
//	rows x (features, logits)   float32, little endian
//	CRC-32C                     4 bytes
//
// A block that is cut off or damaged ends what is used; the rest is computed again.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockFile is a work file; with no file behind it, nothing is kept.
type blockFile struct {
	f   *os.File
	row int   // values of a row
	end int64 // of the last good block
}

func openBlocks(ctx context.Context, p Plan) (*blockFile, error) {
	b, path := &blockFile{row: p.Features + p.Classes}, p.File
	if path == "" {
		return b, nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		b.f, err = filelock.Open(path)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for p.Shared && errors.Is(err, filelock.ErrLocked) {
		select {
		case <-tick.C:
			b.f, err = filelock.Open(path)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	switch {
	case errors.Is(err, filelock.ErrLocked):
		return nil, fmt.Errorf("suite: another process computes this evaluation (%s); wait for it, then the same command prints its result", path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("suite: %w; results and unfinished work are kept there: make it writable, or evaluate an export of the run (agrdist checkpoint export)", err)
	case err != nil:
		return nil, fmt.Errorf("suite: cannot keep the work: %w", err)
	}
	return b, nil
}

// read fills the rows of the next block; ok is false where there is none.
func (b *blockFile) read(features, logits []float32, rows int) (ok bool, err error) {
	if b.f == nil {
		return false, nil
	}
	raw := make([]byte, 4*rows*b.row+4)
	if _, err := b.f.ReadAt(raw, b.end); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, fmt.Errorf("suite: %w", err)
	}
	body := raw[:len(raw)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(raw[len(body):]) {
		return false, nil
	}
	for _, dst := range [][]float32{features, logits} {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(body))
			body = body[4:]
		}
	}
	b.end += int64(len(raw))
	return true, nil
}

// cut drops what follows the last good block.
func (b *blockFile) cut() error {
	if b.f == nil {
		return nil
	}
	if err := b.f.Truncate(b.end); err != nil {
		return fmt.Errorf("suite: %w", err)
	}
	return nil
}

// write appends a block.
func (b *blockFile) write(features, logits []float32, rows int) error {
	if b.f == nil {
		return nil
	}
	raw := make([]byte, 0, 4*rows*b.row+4)
	for _, src := range [][]float32{features, logits} {
		for _, v := range src {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
	}
	raw = binary.LittleEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	if _, err := b.f.WriteAt(raw, b.end); err != nil {
		return fmt.Errorf("suite: cannot keep the work: %w", err)
	}
	b.end += int64(len(raw))
	return nil
}

func (b *blockFile) close() error {
	if b.f == nil {
		return nil
	}
	return b.f.Close()
}
