package mesh

import (
	"fmt"

	"github.com/agrdist/agrdist/allreduce"
)

// wordGather is AllGather and Barrier: every rank sends its word to every other
// rank.
type wordGather struct {
	g      *group
	word   []byte
	result [][]byte
	came   []bool // by rank
	toCome int
}

func (w *wordGather) init(g *group) { w.g, w.came = g, make([]bool, g.world) }

// prepare returns the slice that will hold the result.
func (w *wordGather) prepare(word []byte) [][]byte {
	w.word = word
	w.result = make([][]byte, w.g.world)
	w.result[w.g.rank] = append(make([]byte, 0, len(word)), word...)
	w.toCome = w.g.world - 1
	clear(w.came)
	return w.result
}

func (w *wordGather) start() {
	for _, l := range w.g.links {
		if l != nil {
			l.push(sendItem{kind: frameWord, raw: w.word})
		}
	}
}

func (w *wordGather) place(peer int, h *header) (place, bool, error) {
	if w.came[peer] {
		return place{}, false, fmt.Errorf("%w: a second word", allreduce.ErrFrame)
	}
	w.result[peer] = make([]byte, h.length) // bounded by MaxWord
	return place{dst: w.result[peer]}, true, nil
}

func (w *wordGather) arrived(peer int, _ *header) error {
	w.came[peer] = true
	w.toCome--
	return nil
}

func (w *wordGather) next() (work, done bool) { return false, w.toCome == 0 }

func (w *wordGather) work() {}

func (w *wordGather) owes(peer int) debt {
	if peer != w.g.rank && !w.came[peer] {
		return owesOwn
	}
	return owesNothing
}

func (w *wordGather) release() { w.word, w.result = nil, nil }
