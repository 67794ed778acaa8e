package tensorboard

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/agrdist/agrdist/metrics"
)

func TestMaskedCRC(t *testing.T) {
	// CRC-32C of "123456789" is e3069283 (RFC 3720, appendix B.4 gives the polynomial).
	c := uint32(0xe3069283)
	require.Equal(t, (c>>15|c<<17)+0xa282ead8, maskedCRC([]byte("123456789")))
}

// fields splits a message into its fields, in order.
type field struct {
	number protowire.Number
	value  []byte
	bits   uint64
}

func fields(t *testing.T, b []byte) (out []field) {
	t.Helper()
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.bits, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.bits = uint64(v)
		case protowire.BytesType:
			f.value, n = protowire.ConsumeBytes(b)
		default:
			require.Fail(t, "wire type", "%d", kind)
		}
		require.Positive(t, n)
		b = b[n:]
		out = append(out, f)
	}
	return out
}

func get(t *testing.T, b []byte, path ...protowire.Number) (field, bool) {
	t.Helper()
	for i, number := range path {
		found := false
		for _, f := range fields(t, b) {
			if f.number == number {
				if i == len(path)-1 {
					return f, true
				}
				b, found = f.value, true
				break
			}
		}
		if !found {
			break
		}
	}
	return field{}, false
}

// records reads the files of a directory as TensorBoard does, checksums included.
func records(t *testing.T, dir string) (out [][]byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	require.NoError(t, err)
	sort.Strings(names)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for len(b) > 0 {
			n := binary.LittleEndian.Uint64(b)
			require.Equal(t, maskedCRC(b[:8]), binary.LittleEndian.Uint32(b[8:]))
			data := b[12 : 12+n]
			require.Equal(t, maskedCRC(data), binary.LittleEndian.Uint32(b[12+n:]))
			out = append(out, data)
			b = b[16+n:]
		}
	}
	return out
}

func TestScalarsAndSession(t *testing.T) {
	dir := t.TempDir()
	w := New(Config{Dir: filepath.Join(dir, "tb"), HParams: map[string]any{"lr.base": 0.002, "agr.enabled": true}, Settings: "seed: 1\n"})
	require.NoError(t, w.Write(metrics.Event{Event: metrics.EventStart}))
	require.NoError(t, w.Write(metrics.Event{Event: metrics.EventStep, Step: 10, Loss: metrics.Finite(0.5), LR: metrics.Finite(0.001)}))
	require.NoError(t, w.Close())

	r := records(t, filepath.Join(dir, "tb"))
	require.Len(t, r, 5) // version, session, hyperparameters, settings, step
	version, _ := get(t, r[0], eventFileVersion)
	require.Equal(t, "brain.Event:2", string(version.value))
	status, ok := get(t, r[1], eventSessionLog, sessionStatus)
	require.True(t, ok)
	require.EqualValues(t, sessionStart, status.bits)
	step, _ := get(t, r[4], eventStep)
	require.EqualValues(t, 10, step.bits)
	v, ok := get(t, r[4], eventSummary, summaryValue, valueSimple)
	require.True(t, ok)
	require.Equal(t, float32(0.5), math.Float32frombits(uint32(v.bits)))
}

// A resumed run marks the step from which on its file replaces the earlier one's.
func TestResumeMarksItsStep(t *testing.T) {
	for _, c := range []struct {
		first metrics.Event
		want  uint64
	}{
		{metrics.Event{Event: metrics.EventGeneration, Step: 400}, 401},
		{metrics.Event{Event: metrics.EventStep, Step: 401, Loss: metrics.Finite(1)}, 401},
		{metrics.Event{Event: metrics.EventStart, Step: 0}, 0},
	} {
		dir := t.TempDir()
		w := New(Config{Dir: dir})
		require.NoError(t, w.Write(c.first))
		require.NoError(t, w.Close())
		for _, r := range records(t, dir) {
			if _, ok := get(t, r, eventSessionLog); ok {
				step, _ := get(t, r, eventStep)
				require.Equal(t, c.want, step.bits, c.first.Event)
			}
		}
	}
}

func TestSampleGrid(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewRGBA(image.Rect(0, 0, 7, 5))))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "grid.png"), b.Bytes(), 0o600))
	w := New(Config{Dir: filepath.Join(dir, "tb"), RunDir: dir})
	require.NoError(t, w.Write(metrics.Event{Event: metrics.EventSample, Step: 20, Path: "grid.png"}))
	require.ErrorContains(t, w.Write(metrics.Event{Event: metrics.EventSample, Step: 20, Path: "none.png"}), "none.png")
	require.NoError(t, w.Close())
	r := records(t, filepath.Join(dir, "tb"))
	last := r[len(r)-1]
	height, _ := get(t, last, eventSummary, summaryValue, valueImage, imageHeight)
	width, _ := get(t, last, eventSummary, summaryValue, valueImage, imageWidth)
	encoded, _ := get(t, last, eventSummary, summaryValue, valueImage, imageEncoded)
	require.EqualValues(t, 5, height.bits)
	require.EqualValues(t, 7, width.bits)
	require.Equal(t, b.Bytes(), encoded.value)
}

func TestNothingToShowMakesNoFileOfItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tb")
	w := New(Config{Dir: dir})
	require.NoError(t, w.Close())
	require.NoDirExists(t, dir)
}
