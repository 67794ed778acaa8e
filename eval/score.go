package eval

import (
	"fmt"
	"math"
)

// Score is the Inception Score (Salimans et al., arXiv 1606.03498): in each of
// Splits contiguous parts of the images, exp(mean over images of
// KL(p(y|x) || p(y))), where p(y) is the mean of p(y|x) in that part.
//
// It is streaming: for the images of a part, sum p and sum p log p are enough.
type Score struct {
	n, splits, classes int
	seen               int
	parts              []scorePart
}

type scorePart struct {
	count   int
	p       []float64 // sum over images, by class
	entropy float64   // sum over images and classes of p log p
}

// DefaultSplits is the number of parts in the paper's definition.
const DefaultSplits = 10

// NewScore returns the score of n images to come, n >= splits >= 1, of logits for
// classes classes.
func NewScore(n, splits, classes int) (*Score, error) {
	if splits < 1 || classes < 1 {
		return nil, fmt.Errorf("eval: an Inception Score of %d splits and %d classes; both must be at least 1", splits, classes)
	}
	if n < splits {
		return nil, fmt.Errorf("eval: %w: the Inception Score in %d splits needs at least as many, there are %d", ErrTooFew, splits, n)
	}
	s := &Score{n: n, splits: splits, classes: classes, parts: make([]scorePart, splits)}
	for i := range s.parts {
		s.parts[i].p = make([]float64, classes)
	}
	return s, nil
}

// Add adds images in their order, by their logits [rows, classes].
func (s *Score) Add(logits []float32) {
	if len(logits)%s.classes != 0 {
		panic(fmt.Sprintf("eval: %d values are not rows of %d logits", len(logits), s.classes))
	}
	for ; len(logits) > 0; logits = logits[s.classes:] {
		if s.seen == s.n {
			panic(fmt.Sprintf("eval: more than the %d images that the score was made for", s.n))
		}
		// Part k is images [k n/splits, (k+1) n/splits), rounded down.
		part := &s.parts[((s.seen+1)*s.splits-1)/s.n]
		part.add(logits[:s.classes])
		s.seen++
	}
}

func (p *scorePart) add(logits []float32) {
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	logSum := top + math.Log(sum)
	for i, v := range logits {
		logP := float64(v) - logSum
		if q := math.Exp(logP); q != 0 { // 0 log 0 is 0
			p.p[i] += q
			p.entropy += q * logP
		}
	}
	p.count++
}

// Result is the mean and the population standard deviation over the parts, as the
// paper and torch-fidelity report. It fails with ErrTooFew before all images are
// added, and with ErrNotFinite where a logit was not finite.
func (s *Score) Result() (mean, std float64, err error) {
	if s.seen < s.n {
		return 0, 0, fmt.Errorf("eval: %w: %d of the score's %d", ErrTooFew, s.seen, s.n)
	}
	scores := make([]float64, len(s.parts))
	for i, p := range s.parts {
		count := float64(p.count)
		kl := p.entropy / count
		for _, sum := range p.p {
			if sum > 0 {
				kl -= sum / count * math.Log(sum/count)
			}
		}
		scores[i] = math.Exp(kl)
	}
	mean, std = meanStd(scores)
	if mean-mean != 0 {
		return 0, 0, fmt.Errorf("eval: %w: the Inception Score; a logit is NaN or infinite", ErrNotFinite)
	}
	return mean, std, nil
}
