package trainer

import (
	"errors"
	"fmt"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/diffusion"
)

// Config is what the step needs to know. Everything in it but the cadences and
// the time-outs changes the model's bits.
type Config struct {
	Seed        uint64
	Steps       int64 // optimizer steps of the run
	GlobalBatch int   // images a step, over all ranks
	Chunk       int   // images of one forward and backward pass

	MaxGradNorm float64 // largest global norm; 0: no clipping
	EMADecay    float64 // 0: no moving average

	// LR is the learning rate of global step s, counted from 0.
	LR func(step int64) float64

	MaxSkipped  int   // steps in a row that may be skipped for not being finite
	DigestEvery int64 // steps between comparisons of the ranks' parameters; 0: never

	CheckpointEvery int64 // 0: only at the end and at a stop

	BucketBytes int
	Order       allreduce.Order
	OpTimeout   time.Duration // of one collective operation
}

// Validate reports settings that cannot be trained with.
func (c Config) Validate() error {
	var errs []error
	if c.Steps < 1 {
		errs = append(errs, fmt.Errorf("trainer: %d steps", c.Steps))
	}
	if c.Chunk < 1 || c.GlobalBatch < 1 || c.GlobalBatch%c.Chunk != 0 {
		errs = append(errs, fmt.Errorf("trainer: a batch of %d cannot be cut in chunks of %d", c.GlobalBatch, c.Chunk))
	}
	if c.LR == nil {
		errs = append(errs, errors.New("trainer: no learning rate"))
	}
	if c.BucketBytes < 4 {
		errs = append(errs, fmt.Errorf("trainer: buckets of %d bytes", c.BucketBytes))
	}
	if c.OpTimeout <= 0 {
		errs = append(errs, fmt.Errorf("trainer: operations may take %v", c.OpTimeout))
	}
	return errors.Join(errs...)
}

// Chunks is how many pieces a step is cut in.
func (c Config) Chunks() int { return c.GlobalBatch / c.Chunk }

// Process is the forward process and the model's target.
type Process struct {
	Schedule   *diffusion.Schedule
	Prediction diffusion.Prediction
}
