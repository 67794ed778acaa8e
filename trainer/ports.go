package trainer

import (
	"context"
	"time"

	"github.com/agrdist/agrdist/allreduce"
	"github.com/agrdist/agrdist/cluster"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/optim"
	"github.com/agrdist/agrdist/tensor"
)

// Model is what is trained. *unet.Model is one.
type Model interface {
	Params() *nn.Params
	// Init sets the weights that a run with this seed starts from.
	Init(seed uint64)
	// LossAndGrad overwrites the gradients and returns the sum of squared
	// errors, or leaves those of the samples in b.Losses; ready is called as
	// soon as a parameter's gradient is final.
	LossAndGrad(b unet.Batch, ready func(i int)) (float64, error)
}

// Digester is implemented by backends that can fingerprint their memory: the
// comparison of ranks while training then copies nothing to the host.
type Digester interface {
	// Digest is a function of the bits of an F32 buffer, the same on all ranks.
	Digest(b tensor.Buffer) (uint64, error)
}

// Loader reads training images. *data.Loader is one.
type Loader interface {
	// LoadContext fills dst [len(draws), H, W, C] with the images of the draws; a draw
	// is step x global batch + position. It returns soon after ctx is done, and ends by
	// itself where a file cannot be read; the error names the file.
	LoadContext(ctx context.Context, dst []float32, draws []int64) error
}

// Labeler is a Loader that knows the classes of its images. *data.Loader is one.
type Labeler interface {
	// Labels fills dst with the class of each draw's image.
	Labels(dst, draws []int64)
}

// Session is the worker's line to whoever decides on membership.
type Session interface {
	// Generations delivers the newest generation, perhaps skipping older ones.
	Generations() <-chan cluster.Generation
	// Aborts delivers the end of a generation that has no successor yet.
	Aborts() <-chan cluster.Abort
	// Report says where this worker is. It never blocks.
	Report(r cluster.Report)
}

// Connector makes the group of a generation. *mesh.Endpoint is one. Where
// the state lives on a device, the group may be an allreduce.DeviceGroup; any
// other sums through the host.
type Connector interface {
	Connect(ctx context.Context, c allreduce.GroupConfig) (allreduce.Group, error)
}

// Store keeps and finds checkpoints. The lowest rank of each node reads them; the lowest
// ranks of Config.Replicas disks save, and at the end other ranks where those cannot.
type Store interface {
	// Place names the disk: two nodes with the same Place see each other's checkpoints.
	Place() string
	// Restore loads the run's newest checkpoint on this node into s and reports whether
	// there was one. An error leaves s as it was.
	Restore(ctx context.Context, s *State) (bool, error)
	// NewestStep is the step of the newest checkpoint that Restore would try, which may
	// turn out to be damaged; -1: there is none.
	NewestStep() int64
	// RestoreSource loads what a run that no node has a checkpoint of begins with, and
	// reports whether there is such a thing. Rank 0 calls it.
	RestoreSource(ctx context.Context, s *State) (bool, error)
	// Save starts to write the state, whose host slices are up to date. The state
	// may change when it returns; the write continues in the background. An error
	// of an earlier write may surface here.
	Save(ctx context.Context, s *State) error
	// SaveNow writes the state and returns its path when it is durable. The failure of
	// an earlier write was reported when it happened. Where the disk is full it tries
	// again for wait, or until ctx is done.
	SaveNow(ctx context.Context, s *State, wait time.Duration) (path string, err error)
}

// Observer is told what happens. Calls come from the loop's goroutine and must
// not block. Only rank 0's observer writes down what is the same on all ranks.
type Observer interface {
	Generation(g cluster.Generation, rank int, step int64)
	Start(s Started)
	Step(s StepInfo)
	Skip(s SkipInfo)
	// Saved is told on every rank.
	Saved(s Saved)
	Stop(step int64)
	Finish(step int64, digest string)
}

// Started describes how a run begins on rank 0.
type Started struct {
	Step      int64 // 0, or the step of the checkpoint
	Restored  bool
	Transport string // how gradients travel: "host", or allreduce.DeviceGroup's
}

// StepInfo is a committed step.
type StepInfo struct {
	Step            int64 // steps committed, this one included
	Loss            float64
	GradNorm        float64
	LR              float64
	Millis          float64
	ImagesPerSecond float64
	AGR             float64 // see optim.Stats.AGR; 0: not known
	WorldSize       int
	Generation      uint64
	Rank            int
	Measured        *Measured // nil: the step was not one to measure
}

// Measured is what only some steps tell of themselves. All but Ranks is the same bits on
// every rank and for every world size.
type Measured struct {
	// Loss is the mean squared error of the batch's images by timestep: in the lower,
	// the middle and the upper third of all timesteps. NaN: the batch had none there.
	Loss     [Thirds]float64
	Movement optim.Movement // zero: the pass does not measure it
	Ranks    []RankTimes    // by rank
}

// Thirds is the number of ranges of timesteps of Measured.Loss.
const Thirds = 3

// RankTimes is how a rank spent the step, in milliseconds, and what it holds.
type RankTimes struct {
	Data, Compute, Wait float64 // waiting for images; computing, data included; waiting for other ranks
	RSS                 uint64  // bytes
}

// SkipInfo is a step whose loss or gradient was not finite. It was counted and
// left the model as it was.
type SkipInfo struct {
	Step       int64
	Loss       float64
	Chunks     []int   // chunks whose own loss was not finite; empty: the gradient's sum overflowed
	Draws      []int64 // first draw of each of them
	InARow     int
	WorldSize  int
	Generation uint64
	Rank       int
}
