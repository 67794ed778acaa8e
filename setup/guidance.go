package setup

import (
	"fmt"

	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
)

// guided is a conditional model as a Predictor for images of given classes.
type guided struct {
	unet.Guide
	model *unet.Model
	none  []float32 // the output without a class
}

var _ diffusion.Predictor = (*guided)(nil)

// predictor returns the model as a sampler calls it: itself, or, where it is conditional,
// with the images' classes.
func predictor(m *unet.Model, g unet.Guide) diffusion.Predictor {
	if g.Labels == nil {
		return m
	}
	return &guided{model: m, Guide: g}
}

// guideOf finds the classes of the images ids; none where the model is not conditional.
func guideOf(m *unet.Model, g diffusion.Guidance, ids []uint64) (p unet.Guide, err error) {
	classes := m.Config().NumClassEmbeds
	if classes == 0 {
		if g.Only != nil {
			return p, fmt.Errorf("class %d: the model is not conditional (model.num_class_embeds is 0)", *g.Only)
		}
		return p, nil
	}
	if !(g.Scale >= 0) {
		return p, fmt.Errorf("guidance scale %g: it must be 0 or more", g.Scale)
	}
	none := classes - 1
	if g.HasNone {
		classes--
	} else if g.Scale != 1 {
		return p, fmt.Errorf("guidance scale %g: the model was trained without label dropout and knows no image without a class; only a scale of 1 works", g.Scale)
	}
	if g.Only != nil && (*g.Only < 0 || *g.Only >= classes) {
		return p, fmt.Errorf("class %d: the model has classes 0 to %d", *g.Only, classes-1)
	}
	p = unet.Guide{Labels: make([]int64, len(ids)), None: make([]int64, len(ids)), Scale: g.Scale}
	for i, id := range ids {
		p.Labels[i], p.None[i] = g.Class(id, classes), int64(none)
	}
	return p, nil
}

// Predict is the output without a class, and scale times the difference that the class
// makes.
func (p *guided) Predict(dst, x []float32, t []int64) error {
	if p.Scale != 0 {
		if err := p.model.PredictClasses(dst, x, t, p.Labels); err != nil || p.Scale == 1 {
			return err
		}
	}
	if cap(p.none) < len(dst) {
		p.none = make([]float32, len(dst))
	}
	none := p.none[:len(dst)]
	if err := p.model.PredictClasses(none, x, t, p.None); err != nil {
		return err
	}
	if p.Scale == 0 {
		copy(dst, none)
		return nil
	}
	for i, u := range none {
		// The conversion forbids a fused multiply-add, which not every machine has.
		dst[i] = float32(float64(u) + float64(p.Scale*(float64(dst[i])-float64(u))))
	}
	return nil
}
