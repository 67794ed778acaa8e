package trainer

import (
	"hash/fnv"
	"math"
	"slices"

	"github.com/agrdist/agrdist/agr"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// opaque is a backend whose memory the host does not address: a device, but for
// its speed. It computes with the backend below it.
type opaque struct{ tensor.Backend }

type opaqueBuffer struct{ b tensor.Buffer }

func (o opaqueBuffer) DType() tensor.DType { return o.b.DType() }
func (o opaqueBuffer) Len() int            { return o.b.Len() }

// inside is the memory that the host should not see.
func inside(b tensor.Buffer) []float32 {
	if b == nil {
		return nil
	}
	if o, ok := b.(opaqueBuffer); ok {
		b = o.b
	}
	return b.(tensor.Host).Float32s()
}

func in(t tensor.Tensor) tensor.Tensor {
	if t.Present() {
		t.Buf = t.Buf.(opaqueBuffer).b
	}
	return t
}

func (o opaque) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	b, err := o.Backend.Alloc(dt, n)
	return opaqueBuffer{b}, err
}

func (o opaque) Free(b tensor.Buffer) { o.Backend.Free(b.(opaqueBuffer).b) }

func (o opaque) Slice(b tensor.Buffer, off, n int) tensor.Buffer {
	return opaqueBuffer{o.Backend.Slice(b.(opaqueBuffer).b, off, n)}
}

func (o opaque) Upload(dst tensor.Buffer, src []float32) {
	o.Backend.Upload(dst.(opaqueBuffer).b, src)
}

func (o opaque) UploadInt64(dst tensor.Buffer, src []int64) {
	o.Backend.UploadInt64(dst.(opaqueBuffer).b, src)
}

func (o opaque) Download(dst []float32, src tensor.Buffer) error {
	return o.Backend.Download(dst, src.(opaqueBuffer).b)
}

func (o opaque) Copy(dst, a tensor.Tensor)             { o.Backend.Copy(in(dst), in(a)) }
func (o opaque) Fill(dst tensor.Tensor, v float32)     { o.Backend.Fill(in(dst), v) }
func (o opaque) Add(dst, a, b tensor.Tensor)           { o.Backend.Add(in(dst), in(a), in(b)) }
func (o opaque) Scale(dst, a tensor.Tensor, c float32) { o.Backend.Scale(in(dst), in(a), c) }
func (o opaque) SiLU(dst, x tensor.Tensor)             { o.Backend.SiLU(in(dst), in(x)) }
func (o opaque) SiLUGrad(dx, dy, x tensor.Tensor)      { o.Backend.SiLUGrad(in(dx), in(dy), in(x)) }

func (o opaque) AddScaled(dst, a tensor.Tensor, c float32) {
	o.Backend.AddScaled(in(dst), in(a), c)
}

func (o opaque) AddChannels(dst, x, e tensor.Tensor) { o.Backend.AddChannels(in(dst), in(x), in(e)) }
func (o opaque) Concat(dst, a, b tensor.Tensor)      { o.Backend.Concat(in(dst), in(a), in(b)) }
func (o opaque) Split(da, db, src tensor.Tensor)     { o.Backend.Split(in(da), in(db), in(src)) }

func (o opaque) QSample(dst, x0, eps, ca, cb tensor.Tensor) {
	o.Backend.QSample(in(dst), in(x0), in(eps), in(ca), in(cb))
}

func (o opaque) SumChannels(dst, x tensor.Tensor) { o.Backend.SumChannels(in(dst), in(x)) }

func (o opaque) MSE(loss, dpred, pred, target tensor.Tensor, scale float32) {
	o.Backend.MSE(in(loss), in(dpred), in(pred), in(target), scale)
}

func (o opaque) Normal(dst, draws tensor.Tensor, seed uint64, stream uint32) {
	o.Backend.Normal(in(dst), in(draws), seed, stream)
}

func (o opaque) Dropout(dst, x, draws tensor.Tensor, p float32, seed uint64, stream uint32) {
	o.Backend.Dropout(in(dst), in(x), in(draws), p, seed, stream)
}

func (o opaque) MatMul(dst, a, b tensor.Tensor, args tensor.MatMulArgs) {
	o.Backend.MatMul(in(dst), in(a), in(b), args)
}

func (o opaque) Conv2D(y, x, w, bias, perSample, residual tensor.Tensor, c tensor.Conv) {
	o.Backend.Conv2D(in(y), in(x), in(w), in(bias), in(perSample), in(residual), c)
}

func (o opaque) Conv2DInputGrad(dx, dy, w tensor.Tensor, c tensor.Conv) {
	o.Backend.Conv2DInputGrad(in(dx), in(dy), in(w), c)
}

func (o opaque) Conv2DWeightGrad(dw, db, x, dy tensor.Tensor, c tensor.Conv) {
	o.Backend.Conv2DWeightGrad(in(dw), in(db), in(x), in(dy), c)
}

func (o opaque) GroupNorm(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32) {
	o.Backend.GroupNorm(in(y), in(mean), in(rstd), in(x), in(gamma), in(beta), groups, eps)
}

func (o opaque) GroupNormGrad(dx, dgamma, dbeta, dy, x, gamma, mean, rstd tensor.Tensor, groups int) {
	o.Backend.GroupNormGrad(in(dx), in(dgamma), in(dbeta), in(dy), in(x), in(gamma), in(mean), in(rstd), groups)
}

func (o opaque) ScaleShift(gammas, betas, gamma, beta, e tensor.Tensor) {
	o.Backend.ScaleShift(in(gammas), in(betas), in(gamma), in(beta), in(e))
}

func (o opaque) ScaleShiftGrad(dgamma, dbeta, de, dgammas, dbetas, gamma, beta, e tensor.Tensor) {
	o.Backend.ScaleShiftGrad(in(dgamma), in(dbeta), in(de), in(dgammas), in(dbetas), in(gamma), in(beta), in(e))
}

func (o opaque) Softmax(y, x tensor.Tensor, scale float32) { o.Backend.Softmax(in(y), in(x), scale) }

func (o opaque) SoftmaxGrad(dx, dy, y tensor.Tensor, scale float32) {
	o.Backend.SoftmaxGrad(in(dx), in(dy), in(y), scale)
}

func (o opaque) Upsample(y, x tensor.Tensor)       { o.Backend.Upsample(in(y), in(x)) }
func (o opaque) UpsampleGrad(dx, dy tensor.Tensor) { o.Backend.UpsampleGrad(in(dx), in(dy)) }

func (o opaque) TimestepEmbedding(dst, t tensor.Tensor, freqShift int, flip bool) {
	o.Backend.TimestepEmbedding(in(dst), in(t), freqShift, flip)
}

// The fused operations: composed ones round in another way.

func (o opaque) GroupNormSiLU(y, mean, rstd, x, gamma, beta tensor.Tensor, groups int, eps float32, drop tensor.Dropout) {
	drop.Draws = in(drop.Draws)
	o.Backend.(tensor.GroupNormSiLU).GroupNormSiLU(in(y), in(mean), in(rstd), in(x), in(gamma), in(beta), groups, eps, drop)
}

func (o opaque) GroupNormSiLUGrad(
	dx, dgamma, dbeta, dy, x, gamma, beta, mean, rstd tensor.Tensor, groups int, drop tensor.Dropout,
) {
	drop.Draws = in(drop.Draws)
	o.Backend.(tensor.GroupNormSiLU).GroupNormSiLUGrad(
		in(dx), in(dgamma), in(dbeta), in(dy), in(x), in(gamma), in(beta), in(mean), in(rstd), groups, drop)
}

func (o opaque) Attention(y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	o.Backend.(tensor.Attention).Attention(in(y), in(lse), in(q), in(k), in(v), heads, scale)
}

func (o opaque) AttentionGrad(dq, dk, dv, dy, y, lse, q, k, v tensor.Tensor, heads int, scale float32) {
	o.Backend.(tensor.Attention).AttentionGrad(
		in(dq), in(dk), in(dv), in(dy), in(y), in(lse), in(q), in(k), in(v), heads, scale)
}

// fetching is a device whose copies to the host arrive when the host waits, and not
// before.
type fetching struct {
	opaque
	late  []func()
	waits int
}

func (f *fetching) AllocFetched(n int) ([]float32, error) {
	dst := make([]float32, n)
	for i := range dst {
		dst[i] = float32(math.NaN())
	}
	return dst, nil
}

func (f *fetching) Fetch(dst []float32, src tensor.Buffer) {
	values := slices.Clone(inside(src))
	f.late = append(f.late, func() { copy(dst, values) })
}

func (f *fetching) Sync() error {
	f.waits++
	for _, arrive := range f.late {
		arrive()
	}
	f.late = nil
	return f.opaque.Sync()
}

// fingerprinting is a device that can digest its memory.
type fingerprinting struct{ opaque }

func (fingerprinting) Digest(b tensor.Buffer) (uint64, error) {
	h := fnv.New64a()
	_, err := h.Write(bytesOf(inside(b)))
	return h.Sum64(), err
}

// onDevice is the host's pass working inside a device's memory. After every update it
// overwrites the host's copies of the state, so that a trainer that reads them without
// fetching them gets other numbers.
type onDevice struct {
	agr.Pass
	be    tensor.Backend
	slots []optim.Slot
	stale func()
}

func newOnDevice(be tensor.Backend, pass agr.Pass) (*onDevice, error) {
	d := &onDevice{Pass: pass, be: be, stale: func() {}}
	for _, s := range pass.Slots() {
		b, err := be.Alloc(tensor.F32, s.Data.Len())
		if err != nil {
			return nil, err
		}
		d.slots = append(d.slots, optim.Slot{Name: s.Name, Data: b})
	}
	return d, nil
}

func (d *onDevice) Slots() []optim.Slot { return d.slots }

func (d *onDevice) Measure(u optim.Update) (optim.Stats, error) {
	for i, s := range d.Pass.Slots() {
		copy(s.Float32s(), inside(d.slots[i].Data))
	}
	u.Params, u.Grads = tensor.Floats(inside(u.Params)), tensor.Floats(inside(u.Grads))
	if u.EMA != nil {
		u.EMA = tensor.Floats(inside(u.EMA))
	}
	if err := d.be.Sync(); err != nil {
		return optim.Stats{}, err
	}
	return d.Pass.Measure(u)
}

func (d *onDevice) Apply() error {
	err := d.Pass.Apply()
	for i, s := range d.Pass.Slots() {
		copy(inside(d.slots[i].Data), s.Float32s())
	}
	d.stale()
	return err
}

// device moves a rank's optimizer state into its device.
func device(_ *Config, p *Parts) {
	d, err := newOnDevice(p.Backend, p.Pass)
	if err != nil {
		panic(err)
	}
	p.Pass = d
}

// forget overwrites the host's copies after every update from now on.
func (r *rank) forget() {
	d := r.trainer.parts.Pass.(*onDevice)
	d.stale = func() {
		for _, flat := range r.trainer.state.Flats() {
			for i := range flat {
				flat[i] = float32(math.NaN())
			}
		}
	}
}
