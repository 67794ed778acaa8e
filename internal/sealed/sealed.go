package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrDamaged says that a document is not what was written.
var ErrDamaged = errors.New("damaged")

// Limit is the size in bytes from which on a document is taken for damaged.
const Limit = 256 << 20

// The last line but one of a document: key and hexadecimal digits.
const sealKey = ",\n  \"sha256\": \""

const (
	sealEnd    = "\"\n}\n"
	sealLength = len(sealKey) + 2*sha256.Size + len(sealEnd)
)

// Marshal returns the document of v, which must be a struct with a field at least and
// none called sha256.
func Marshal(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	body, ok := bytes.CutSuffix(text, []byte("\n}"))
	if !ok {
		return nil, fmt.Errorf("sealed: %T is no struct with fields", v)
	}
	sum := sha256.Sum256(body)
	out := append(body, sealKey...)
	out = hex.AppendEncode(out, sum[:])
	return append(out, sealEnd...), nil
}

// Unmarshal fills v, a pointer, from a document, and tells whether it had a checksum.
// Any difference from what Marshal wrote is an error that wraps ErrDamaged; v is then
// unspecified. A document without a checksum must be JSON of v's fields and nothing else.
func Unmarshal(text []byte, v any) (checked bool, err error) {
	if body, ok := cutSeal(text); ok {
		sum := sha256.Sum256(body)
		if want := hex.EncodeToString(sum[:]); string(text[len(body)+len(sealKey):len(text)-len(sealEnd)]) != want {
			return true, fmt.Errorf("%w: its checksum does not match", ErrDamaged)
		}
		text, checked = append(bytes.Clone(body), "\n}"...), true
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(v); {
	case len(bytes.TrimSpace(text)) == 0:
		return checked, fmt.Errorf("%w: it is empty", ErrDamaged)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return checked, fmt.Errorf("%w: it is cut short", ErrDamaged)
	case err != nil:
		return checked, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return checked, fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return checked, nil
}

// cutSeal returns what the checksum of a document is of; false if it has none.
func cutSeal(text []byte) (body []byte, ok bool) {
	n := len(text) - sealLength
	if n < 0 {
		return nil, false
	}
	seal := text[n:]
	return text[:n], bytes.HasPrefix(seal, []byte(sealKey)) && bytes.HasSuffix(seal, []byte(sealEnd))
}
