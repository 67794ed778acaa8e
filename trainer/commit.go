package trainer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The commit word, one a rank and step, little endian:
//
//	0        8        16       17            21              21+8n
//	+--------+--------+--------+-------------+---------------+--------------
//	|  gen   |  step  | flags  | first chunk | n chunk losses| measured ...
//	+--------+--------+--------+-------------+---------------+--------------
//
// With flagMeasured there follow the n chunks' losses by thirds of the timesteps, and
// the rank's times (data, compute, wait in milliseconds) and resident memory.
//
// Every rank of the generation sends it after its last bucket and reads all of
// them, so all decide the same: whether the step commits, whether the run stops
// or saves after it, what its loss was (summed in the order of the chunks).
const (
	wordHeader = 21

	flagStop = 1 << 0 // this rank was asked to stop the run
	flagSave = 1 << 1 // this rank was asked for a checkpoint

	flagMeasured = 1 << 2 // the rank measured the step
	flagNext     = 1 << 3 // it knows of a generation that follows after this step

	rankBytes  = 4 * 8
	chunkBytes = 8 + 8*Thirds // of a chunk in a measured word
)

type commitWord struct {
	generation uint64
	step       int64
	stop, save bool
	next       bool
	firstChunk int
	losses     []float64 // sum of squared errors of each chunk
	measured   bool
	thirds     []float64 // of losses, by timestep: Thirds a chunk
	times      RankTimes
}

func (w commitWord) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, w.generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.step))
	var flags byte
	if w.stop {
		flags |= flagStop
	}
	if w.save {
		flags |= flagSave
	}
	if w.measured {
		flags |= flagMeasured
	}
	if w.next {
		flags |= flagNext
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(w.firstChunk))
	for _, l := range w.losses {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l))
	}
	if !w.measured {
		return b
	}
	for _, l := range w.thirds {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l))
	}
	for _, x := range []float64{w.times.Data, w.times.Compute, w.times.Wait} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return binary.LittleEndian.AppendUint64(b, w.times.RSS)
}

// verdict is what all words together say.
type verdict struct {
	stop, save bool
	next       bool      // all know of the generation that follows after this step
	losses     []float64 // by chunk

	thirds [Thirds]float64 // sums of squared errors, by timestep; of the ranks that measured
	ranks  []RankTimes     // by rank; nil: some rank did not measure the step
}

// decide reads the words of all ranks. losses has room for every chunk.
func decide(words [][]byte, generation uint64, step int64, losses []float64) (verdict, error) {
	v := verdict{losses: losses, next: true}
	next := 0
	for rank, b := range words {
		n, ok := chunksOf(b)
		if !ok {
			return v, fmt.Errorf("trainer: commit word of rank %d has %d bytes", rank, len(b))
		}
		g, s := binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))
		if g != generation || s != step {
			return v, fmt.Errorf("trainer: rank %d is at generation %d, step %d, this one at %d, %d", rank, g, s, generation, step)
		}
		v.stop = v.stop || b[16]&flagStop != 0
		v.save = v.save || b[16]&flagSave != 0
		v.next = v.next && b[16]&flagNext != 0
		if b[16]&flagMeasured != 0 {
			v.ranks = append(v.ranks, v.addMeasured(b[wordHeader+8*n:], n))
		}
		first := int(binary.LittleEndian.Uint32(b[17:]))
		if n == 0 {
			continue // more ranks than chunks: this one had no work
		}
		if first != next || first+n > len(losses) {
			return v, fmt.Errorf("trainer: rank %d computed chunks %d to %d, expected from %d of %d", rank, first, first+n, next, len(losses))
		}
		for i := range n {
			losses[first+i] = math.Float64frombits(binary.LittleEndian.Uint64(b[wordHeader+8*i:]))
		}
		next += n
	}
	if next != len(losses) {
		return v, fmt.Errorf("trainer: the ranks computed %d of %d chunks", next, len(losses))
	}
	if len(v.ranks) < len(words) {
		v.ranks = nil
	}
	return v, nil
}

// chunksOf is the number of chunks in a word; false where its length is wrong.
func chunksOf(b []byte) (n int, ok bool) {
	if len(b) < wordHeader {
		return 0, false
	}
	rest, each := len(b)-wordHeader, 8
	if b[16]&flagMeasured != 0 {
		rest, each = rest-rankBytes, chunkBytes
	}
	return rest / each, rest >= 0 && rest%each == 0
}

// addMeasured takes in what a rank measured of its n chunks. Words come in the order of
// the chunks, so the sums have the same bits for every world size.
func (v *verdict) addMeasured(b []byte, n int) RankTimes {
	next := func() float64 {
		x := math.Float64frombits(binary.LittleEndian.Uint64(b))
		b = b[8:]
		return x
	}
	for range n {
		for i := range v.thirds {
			v.thirds[i] += next()
		}
	}
	t := RankTimes{Data: next(), Compute: next(), Wait: next()}
	t.RSS = binary.LittleEndian.Uint64(b)
	return t
}
