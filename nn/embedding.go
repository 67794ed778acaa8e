package nn

import "github.com/agrdist/agrdist/autograd"

// Embedding turns timesteps into vectors: sinusoids of the timestep, then Linear,
// SiLU, Linear (Ho et al., arXiv 2006.11239, appendix B).
type Embedding struct {
	first, second *LinearLayer
	dim           int
	freqShift     int
	flip          bool
}

// NewEmbedding registers NAME.linear_1 (dim to hidden) and NAME.linear_2. freqShift
// and flip are those of autograd.Tape.TimestepEmbedding.
func NewEmbedding(p *Params, name string, dim, hidden, freqShift int, flip bool) *Embedding {
	return &Embedding{
		first:  NewLinear(p, name+".linear_1", dim, hidden),
		second: NewLinear(p, name+".linear_2", hidden, hidden),
		dim:    dim, freqShift: freqShift, flip: flip,
	}
}

// Forward embeds timesteps ts, I64 [N], as [N,hidden].
func (l *Embedding) Forward(t *autograd.Tape, ts *autograd.Value) *autograd.Value {
	h := t.TimestepEmbedding(ts, l.dim, l.freqShift, l.flip)
	return l.second.Forward(t, t.SiLU(l.first.Forward(t, h)))
}

// Table is one learned vector for each of some classes (torch.nn.Embedding).
type Table struct {
	params *Params
	weight int
}

// NewTable registers NAME.weight, [rows,dim].
func NewTable(p *Params, name string, rows, dim int) *Table {
	return &Table{params: p, weight: p.Add(name+".weight", Vector, rows, dim)}
}

// Forward picks rows: x is one-hot, F32 [N,rows]; the result is [N,dim].
func (l *Table) Forward(t *autograd.Tape, x *autograd.Value) *autograd.Value {
	return t.MatMul(x, l.params.Leaf(t, l.weight), false, false, 1)
}
