package data

import (
	"bytes"
	"compress/gzip"
	_ "embed" // digits.csv.gz
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// digitsFile is the digits data set as scikit-learn ships it: a line an image,
// 64 values 0..16 and the label. NOTICE.md has its source and its licence.
//
//go:embed digits.csv.gz
var digitsFile []byte

const (
	digitsSide = 8
	digitsMax  = 16
	digitsLen  = 1797
)

// digits is the embedded data set, decoded.
type digits struct {
	pixels []byte // [1797, 8, 8], 0..16
	labels []byte
}

var _ Dataset = (*digits)(nil)

// openDigits decodes the embedded file once for all.
var openDigits = sync.OnceValues(func() (Dataset, error) {
	d, err := parseDigits(bytes.NewReader(digitsFile))
	if err != nil {
		return nil, &CorruptError{
			Path: "embedded digits.csv.gz", Offset: -1, Reason: "damaged in this build", Err: err,
			Fix: "rebuild the program from a clean checkout",
		}
	}
	return d, nil
})

func parseDigits(compressed io.Reader) (*digits, error) {
	text, err := gzip.NewReader(compressed)
	if err != nil {
		return nil, err
	}
	lines := csv.NewReader(text)
	lines.FieldsPerRecord = digitsSide*digitsSide + 1
	lines.ReuseRecord = true
	d := &digits{}
	for {
		line, err := lines.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		for i, field := range line {
			limit := digitsMax
			if i == len(line)-1 {
				limit = 9
			}
			v, err := strconv.ParseUint(field, 10, 8)
			if err != nil || v > uint64(limit) {
				return nil, fmt.Errorf("image %d, value %d is %q; it must be 0 to %d", len(d.labels), i, field, limit)
			}
			if i == len(line)-1 {
				d.labels = append(d.labels, byte(v))
			} else {
				d.pixels = append(d.pixels, byte(v))
			}
		}
	}
	if len(d.labels) != digitsLen {
		return nil, fmt.Errorf("%d images; there must be %d", len(d.labels), digitsLen)
	}
	return d, nil
}

func (d *digits) Name() string                        { return Digits }
func (d *digits) Len() int                            { return len(d.labels) }
func (d *digits) Size() (height, width, channels int) { return digitsSide, digitsSide, 1 }
func (d *digits) Label(index int) int                 { return int(d.labels[index]) }

func (d *digits) Read(dst []float32, index int) error {
	checkRead(d, dst, index)
	for i, v := range d.pixels[index*len(dst) : (index+1)*len(dst)] {
		dst[i] = float32(float32(v)/(digitsMax/2)) - 1
	}
	return nil
}
