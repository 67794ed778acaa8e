package trainer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The commit word, one a rank and step, little endian:
//
//	0        8        16       17            21              21+8n
//	+--------+--------+--------+-------------+---------------+
//	|  gen   |  step  | flags  | first chunk | n chunk losses|
//	+--------+--------+--------+-------------+---------------+
//
// Every rank of the generation sends it after its last bucket and reads all of
// them, so all decide the same: whether the step commits, whether the run stops
// or saves after it, what its loss was (summed in the order of the chunks).
const (
	wordHeader = 21

	flagStop = 1 << 0 // this rank was asked to stop the run
	flagSave = 1 << 1 // this rank was asked for a checkpoint
)

type commitWord struct {
	generation uint64
	step       int64
	stop, save bool
	firstChunk int
	losses     []float64 // sum of squared errors of each chunk
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
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(w.firstChunk))
	for _, l := range w.losses {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l))
	}
	return b
}

// verdict is what all words together say.
type verdict struct {
	stop, save bool
	losses     []float64 // by chunk
}

// decide reads the words of all ranks. losses has room for every chunk.
func decide(words [][]byte, generation uint64, step int64, losses []float64) (verdict, error) {
	v := verdict{losses: losses}
	next := 0
	for rank, b := range words {
		if len(b) < wordHeader || (len(b)-wordHeader)%8 != 0 {
			return v, fmt.Errorf("trainer: commit word of rank %d has %d bytes", rank, len(b))
		}
		g, s := binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))
		if g != generation || s != step {
			return v, fmt.Errorf("trainer: rank %d is at generation %d, step %d, this one at %d, %d", rank, g, s, generation, step)
		}
		v.stop = v.stop || b[16]&flagStop != 0
		v.save = v.save || b[16]&flagSave != 0
		first, n := int(binary.LittleEndian.Uint32(b[17:])), (len(b)-wordHeader)/8
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
	return v, nil
}
