package setup

import "github.com/agrdist/agrdist/tensor"

// meter is a backend that has no memory and computes nothing: it counts what would
// be allocated. It offers the fused operations, as GPUs do.
type meter struct {
	bytes       int64
	activations tensor.DType
}

var (
	_ tensor.Backend       = (*meter)(nil)
	_ tensor.GroupNormSiLU = (*meter)(nil)
	_ tensor.Attention     = (*meter)(nil)
	_ tensor.Mixed         = (*meter)(nil)
)

// extent is a buffer without content.
type extent struct {
	dtype tensor.DType
	n     int
}

func (e extent) DType() tensor.DType { return e.dtype }
func (e extent) Len() int            { return e.n }

func (m *meter) Alloc(dt tensor.DType, n int) (tensor.Buffer, error) {
	m.bytes += int64(n) * int64(dt.Size())
	return extent{dt, n}, nil
}

func (m *meter) Free(b tensor.Buffer) { m.bytes -= int64(b.Len()) * int64(b.DType().Size()) }

func (*meter) Slice(b tensor.Buffer, _, n int) tensor.Buffer { return extent{b.DType(), n} }

func (m *meter) Activations() tensor.DType { return m.activations }

func (*meter) SliceAs(_ tensor.Buffer, dt tensor.DType, _, n int) tensor.Buffer { return extent{dt, n} }

func (*meter) Name() string                                                 { return "meter" }
func (*meter) Close() error                                                 { return nil }
func (*meter) Sync() error                                                  { return nil }
func (*meter) Upload(tensor.Buffer, []float32)                              {}
func (*meter) UploadInt64(tensor.Buffer, []int64)                           {}
func (*meter) Download([]float32, tensor.Buffer) error                      { return nil }
func (*meter) Copy(_, _ tensor.Tensor)                                      {}
func (*meter) Fill(tensor.Tensor, float32)                                  {}
func (*meter) Add(_, _, _ tensor.Tensor)                                    {}
func (*meter) AddScaled(_, _ tensor.Tensor, _ float32)                      {}
func (*meter) Scale(_, _ tensor.Tensor, _ float32)                          {}
func (*meter) SiLU(_, _ tensor.Tensor)                                      {}
func (*meter) SiLUGrad(_, _, _ tensor.Tensor)                               {}
func (*meter) AddChannels(_, _, _ tensor.Tensor)                            {}
func (*meter) Concat(_, _, _ tensor.Tensor)                                 {}
func (*meter) Split(_, _, _ tensor.Tensor)                                  {}
func (*meter) QSample(_, _, _, _, _ tensor.Tensor)                          {}
func (*meter) SumChannels(_, _ tensor.Tensor)                               {}
func (*meter) MSE(_, _, _, _ tensor.Tensor, _ float32)                      {}
func (*meter) Normal(_, _ tensor.Tensor, _ uint64, _ uint32)                {}
func (*meter) Dropout(_, _, _ tensor.Tensor, _ float32, _ uint64, _ uint32) {}
func (*meter) MatMul(_, _, _ tensor.Tensor, _ tensor.MatMulArgs)            {}
func (*meter) Conv2D(_, _, _, _, _, _ tensor.Tensor, _ tensor.Conv)         {}
func (*meter) Conv2DInputGrad(_, _, _ tensor.Tensor, _ tensor.Conv)         {}
func (*meter) Conv2DWeightGrad(_, _, _, _ tensor.Tensor, _ tensor.Conv)     {}
func (*meter) GroupNorm(_, _, _, _, _, _ tensor.Tensor, _ int, _ float32)   {}
func (*meter) GroupNormGrad(_, _, _, _, _, _, _, _ tensor.Tensor, _ int)    {}
func (*meter) ScaleShift(_, _, _, _, _ tensor.Tensor)                       {}
func (*meter) ScaleShiftGrad(_, _, _, _, _, _, _, _ tensor.Tensor)          {}
func (*meter) Softmax(_, _ tensor.Tensor, _ float32)                        {}
func (*meter) SoftmaxGrad(_, _, _ tensor.Tensor, _ float32)                 {}
func (*meter) Upsample(_, _ tensor.Tensor)                                  {}
func (*meter) UpsampleGrad(_, _ tensor.Tensor)                              {}
func (*meter) TimestepEmbedding(_, _ tensor.Tensor, _ int, _ bool)          {}
func (*meter) Attention(_, _, _, _, _ tensor.Tensor, _ int, _ float32)      {}
func (*meter) AttentionGrad(_, _, _, _, _, _, _, _, _ tensor.Tensor, _ int, _ float32) {
}

func (*meter) GroupNormSiLU(_, _, _, _, _, _ tensor.Tensor, _ int, _ float32, _ tensor.Dropout) {}

func (*meter) GroupNormSiLUGrad(_, _, _, _, _, _, _, _, _ tensor.Tensor, _ int, _ tensor.Dropout) {
}
