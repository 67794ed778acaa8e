package unet

import (
	"github.com/agrdist/agrdist/autograd"
	"github.com/agrdist/agrdist/tensor"
)

// Forward runs the model alone on a training batch, dropout acting as it says, and
// returns the memory of the prediction.
func (m *Model) Forward(b Batch) (tensor.Buffer, error) {
	p, err := m.runner.program(mode{n: b.XT.Shape.Dim(0), dropout: b.Train && m.config.Dropout > 0})
	if err != nil {
		return nil, err
	}
	p.Bind(p.x, b.XT)
	p.Bind(p.ts, b.T)
	if p.draws != nil {
		p.Bind(p.draws, b.Draws)
	}
	err = p.Run(autograd.Step{Seed: b.Seed})
	return p.pred.Tensor().Buf, err
}

// Recorded lists the batch sizes kept recorded, last used first.
func (m *Model) Recorded() (sizes []int) {
	for _, p := range m.runner.programs {
		sizes = append(sizes, p.n)
	}
	return sizes
}

// DropoutStreams lists the streams of the dropout masks.
func (m *Model) DropoutStreams() (streams []uint32) {
	add := func(list []*resBlock) {
		for _, r := range list {
			streams = append(streams, r.dropout.Stream)
		}
	}
	for _, d := range m.net.down {
		add(d.resnets)
	}
	add(m.net.mid)
	for _, u := range m.net.up {
		add(u.resnets)
	}
	return streams
}

// RecordedReadyOrder is the order of the recorded program.
func (m *Model) RecordedReadyOrder() []int { return m.runner.programs[0].ReadyOrder() }

// NormChannels is what Validate checks against the norm groups.
func (c Config) NormChannels() []int { return c.normChannels() }
