package diffusion

import (
	"errors"
	"fmt"
	"math"

	"github.com/agrdist/agrdist/internal/portable"
)

// Loss weightings: how much the squared error at a timestep counts. SNR is the
// signal-to-noise ratio abar/(1 - abar).
const (
	WeightNone = "none" // 1: DDPM's simple loss
	// WeightMinSNR is min(SNR, gamma)/SNR of the error in epsilon (Hang et al., arXiv
	// 2303.09556): timesteps with little noise count less.
	WeightMinSNR = "min_snr"
	// WeightP2 is (1 + SNR)^-gamma of the error in epsilon (Choi et al., arXiv
	// 2204.00227, k = 1).
	WeightP2 = "p2"
)

// Weighting is a loss weighting. The zero value is WeightNone.
type Weighting struct {
	Kind  string
	Gamma float64 // 5 is usual for WeightMinSNR, 1 for WeightP2
}

// Validate reports what is wrong, by the key's name.
func (w Weighting) Validate() error {
	if w.Kind == "" || w.Kind == WeightNone {
		return nil
	}
	err := choice("train.loss_weighting", w.Kind, WeightNone, WeightMinSNR, WeightP2)
	if !(w.Gamma > 0) || math.IsInf(w.Gamma, 0) {
		err = errors.Join(err, fmt.Errorf("train.loss_gamma is %v; it must be above 0", w.Gamma))
	}
	return err
}

// On says whether samples are weighted at all.
func (w Weighting) On() bool { return w.Kind != "" && w.Kind != WeightNone }

// At is the weight of the squared error of a network's output at timestep t. The
// weightings are defined on the error in epsilon; its square is SNR times that of the
// error in x0, and abar = SNR/(SNR + 1) times that of the error in v.
func (w Weighting) At(s *Schedule, t int, p Prediction) float64 {
	if !w.On() {
		return 1
	}
	abar := s.AlphasCumprod[t]
	snr := abar / (1 - abar)
	weight := portable.Pow(1+snr, -w.Gamma)
	if w.Kind == WeightMinSNR {
		weight = min(snr, w.Gamma) / snr
	}
	switch p {
	case X0:
		return weight * snr
	case V:
		return weight * snr / (snr + 1)
	default:
		return weight
	}
}
