package trainer

import (
	"errors"
	"fmt"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/diffusion"
)

// Config is what the step needs to know. Everything in it but the cadences and
// the timeouts changes the model's bits.
type Config struct {
	Seed        uint64
	Steps       int64 // optimizer steps of the run
	GlobalBatch int   // images a step, over all ranks
	Chunk       int   // images of one forward and backward pass

	// NumClasses is the number of class embeddings of a conditional model, 0 of others;
	// the loader is a Labeler then. With probability LabelDropout a sample's label is
	// replaced by the last class, which stands for none: what classifier-free guidance
	// needs (Ho & Salimans, arXiv 2207.12598).
	NumClasses   int
	LabelDropout float64

	MaxGradNorm float64 // largest global norm; 0: no clipping
	EMADecay    float64 // 0: no moving average

	// LR is the learning rate of global step s, counted from 0.
	LR func(step int64) float64

	MaxSkipped  int   // steps in a row that may be skipped for not being finite
	DigestEvery int64 // steps between comparisons of the ranks' parameters; 0: only at checkpoints

	MemoryEvery     int64         // steps between copies of the state into Parts.Memory; 0: none
	CheckpointEvery int64         // 0: only at the end and at a stop
	CheckpointAt    []int64       // further steps
	Replicas        int           // disks that a checkpoint is written to, where there are so many; 0 is 1
	FullDiskWait    time.Duration // for room for the checkpoint that the run ends or stops with

	// Measure says of which steps the ranks measure more than a step needs: see
	// Measured. nil: of none.
	Measure func(step int64) bool

	BucketBytes int
	Order       allreduce.Order
	OpTimeout   time.Duration // of one collective operation
}

// Validate reports settings that cannot be trained with, by the keys of the
// configuration that they come from.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf("trainer: "+format, a...)) }
	if c.Steps < 1 {
		fault("train.steps is %d; set it to 1 or more", c.Steps)
	}
	switch {
	case c.Chunk < 1 || c.GlobalBatch < 1:
		fault("train.global_batch is %d and train.chunk %d; set both to 1 or more", c.GlobalBatch, c.Chunk)
	case c.GlobalBatch%c.Chunk != 0:
		fault("train.global_batch is %d, not a multiple of train.chunk, %d; change one of them", c.GlobalBatch, c.Chunk)
	}
	if c.LR == nil {
		fault("Config.LR is nil; set it to a function of the step, such as optim.LRConfig.At")
	}
	if c.BucketBytes < 4 {
		fault("allreduce.bucket_mb gives buckets of %d bytes; set it so that one holds a float32 (4 bytes) or more", c.BucketBytes)
	}
	if c.OpTimeout <= 0 {
		fault("allreduce.timeout is %v; set it to a positive duration", c.OpTimeout)
	}
	return errors.Join(errs...)
}

// Chunks is how many pieces a step is cut in.
func (c Config) Chunks() int { return c.GlobalBatch / c.Chunk }

// Process is the forward process and the model's target.
type Process struct {
	Schedule   *diffusion.Schedule
	Prediction diffusion.Prediction
	Weighting  diffusion.Weighting // of the squared errors, by timestep
}
