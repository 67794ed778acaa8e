package judge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/nn/weights"
	"github.com/agrdist/agrdist/recipe"
)

// Model is what is judged.
type Model struct {
	recipe.Recipe
	Weights  []weights.Tensor
	Averaged bool   // Weights are a moving average
	Path     string // what was read
	Step     int64  // of the checkpoint, 0 where there is none
	// Images, where not nil, are judged themselves: nothing is generated, and of the
	// recipe only the data set counts.
	Images data.Dataset
}

// References by name; anything else is a path, of a statistics file or of images.
const (
	Train   = "train"   // what the model was trained on
	HeldOut = "heldout" // what data.holdout kept from it
	Test    = "test"    // the test split of a data set that has one
)

// Options say how a model is judged.
type Options struct {
	Images    int    // to generate; 0: as many as the reference has, at most 50,000. Of Model.Images, the first so many; 0: all
	Seed      uint64 // of the images
	Reference string // Train, HeldOut, Test, the path of an npz file with mu and sigma, or what OpenImages opens
	Inception string // file with the weights of the FID Inception; empty: our own classifier

	Device, Precision string // as setup.DeviceConfig
	Workers           int    // processors that generate at once; 0: all
	Batch             int    // images computed at once by each

	// RunDir, where not empty, keeps unfinished work below RunDir/eval and the results
	// in RunDir/eval.jsonl.
	RunDir string
	// CacheDir keeps trained classifiers, the features of references and, without a
	// RunDir, unfinished work.
	CacheDir string
	// LossOnly measures the held-out loss and generates nothing.
	LossOnly bool
	// Again computes what is in eval.jsonl already.
	Again bool
	// Progress, where not nil, is told what is being done, and how much of it was found
	// already done.
	Progress func(what string, done, total, found int)
}

// maxImages is how many are generated where nothing else is said, and the reference
// has as many.
const maxImages = 50_000

// Records is the file of a run's results.
func Records(runDir string) string { return filepath.Join(runDir, "eval.jsonl") }

// Run judges a model. fresh is false where the result was found in RunDir. On an error
// or a cancelled context, finished work stays in RunDir and the next call continues.
func Run(ctx context.Context, m *Model, o Options) (record suite.Record, fresh bool, err error) {
	began := time.Now()
	if o.Progress == nil {
		o.Progress = func(string, int, int, int) {}
	}
	j := &judge{model: m, o: o}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := j.open(ctx); err != nil {
		return record, false, err
	}
	id := j.definition.Digest()
	if o.RunDir != "" && !o.Again {
		found, err := suite.ReadRecords(Records(o.RunDir))
		if err != nil {
			return record, false, err
		}
		if r, ok := suite.Find(found, id); ok {
			return r, false, nil
		}
	}
	metrics, work, err := j.measure(ctx, id)
	if err != nil {
		return record, false, err
	}
	record = suite.Record{
		Definition: j.definition, ID: id, Metrics: metrics, From: m.Path,
		Time: time.Now().UTC().Truncate(time.Second), Seconds: math.Round(time.Since(began).Seconds()*10) / 10,
	}
	if k, ok := j.network.(own); ok {
		record.Classifier = &k.right
	}
	if o.RunDir != "" {
		if err := suite.Append(Records(o.RunDir), record); err != nil {
			return record, true, err
		}
	}
	if work == "" {
		return record, true, nil
	}
	if err := os.Remove(work); !errors.Is(err, os.ErrNotExist) { // another that was as far may have removed it
		return record, true, err
	}
	return record, true, nil
}

// judge is one evaluation.
type judge struct {
	model      *Model
	o          Options
	definition suite.Definition
	sampler    *diffusion.Sampler
	network    network
	workers    []*worker
	reference  *reference
	heldOut    data.Dataset // nil: there are no images to measure the loss on
	closers    []func() error
}

func (j *judge) close() error {
	var errs []error
	for _, f := range slices.Backward(j.closers) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// open opens everything and works out the definition.
func (j *judge) open(ctx context.Context) (err error) {
	if err := j.openWorkers(); err != nil {
		return err
	}
	if j.model.Images != nil {
		err = j.openImages()
	} else {
		err = j.openModel()
	}
	j.definition.Device = j.workers[0].dev.Rounding
	if err != nil || j.o.LossOnly {
		return err
	}
	if err := j.openNetwork(ctx); err != nil {
		return err
	}
	if err := j.openReference(ctx); err != nil {
		return err
	}
	for _, set := range []data.Dataset{j.model.Images, j.reference.set} {
		if err := j.network.accepts(set); err != nil {
			return err
		}
	}
	n := j.o.Images
	switch {
	case n == 0 && j.model.Images != nil:
		n = j.model.Images.Len()
	case n == 0:
		n = min(maxImages, j.reference.len())
	}
	if n < 2 {
		return &config.Error{Source: "-n", Err: fmt.Errorf("a distribution needs at least 2 images, and there is %d", n)}
	}
	d := &j.definition
	d.Images = n
	d.Network = suite.Network{Name: j.network.name(), Digest: j.network.digest()}
	d.Reference, d.KID = j.reference.describe(), suite.KIDFor(n, j.reference.len())
	return nil
}

// openModel puts what generates images into the definition.
func (j *judge) openModel() (err error) {
	m := j.model
	d := &j.definition
	d.Step, d.Weights, d.WeightsDigest = m.Step, "raw", Digest(m.Weights)
	if m.Averaged {
		d.Weights = "ema"
	}
	if err := j.openHeldOut(); err != nil || j.o.LossOnly {
		return err
	}
	s := m.Sampler
	if j.sampler, err = diffusion.NewSampler(m.Schedule, s); err != nil {
		return &config.Error{Source: "sampler", Err: err}
	}
	d.Seed = j.o.Seed
	d.Sampler = &suite.Sampler{Method: s.Method, Steps: len(j.sampler.Timesteps()), Spacing: s.Spacing, Eta: s.Eta, Variance: s.Variance, Clip: s.Clip}
	if j.classes() > 0 {
		d.Sampler.Guidance, d.Sampler.Class = &s.Guidance.Scale, s.Guidance.Only
	}
	return nil
}

// openImages puts images that are there into the definition.
func (j *judge) openImages() error {
	set := j.model.Images
	if n := j.o.Images; n > set.Len() {
		return &config.Error{Source: "-n", Err: fmt.Errorf("%d images of %s, which has %d", n, set.Name(), set.Len())}
	} else if n > 0 {
		j.model.Images = first{set, n}
	}
	digest, err := data.Digest(j.model.Images)
	j.definition.Weights, j.definition.WeightsDigest = "images", digest
	return err
}

// measure does the work and returns the metrics and the name of the work file.
func (j *judge) measure(ctx context.Context, id string) (metrics map[string]suite.Metric, work string, err error) {
	if j.o.LossOnly {
		loss, err := j.loss(ctx)
		return map[string]suite.Metric{suite.HeldOutLoss: loss}, "", err
	}
	against, err := j.reference.collect(ctx, j)
	if err != nil {
		return nil, "", err
	}
	switch {
	case j.o.RunDir != "":
		work = filepath.Join(j.o.RunDir, "eval", id+".features")
	case j.o.CacheDir != "":
		work = filepath.Join(j.o.CacheDir, "eval-"+id+".features")
	}
	n, what := j.definition.Images, "generating"
	source := func(w *worker) suite.Worker { return generator{w} }
	if set := j.model.Images; set != nil {
		what, source = "images", func(w *worker) suite.Worker { return reader{w, set} }
	}
	c, err := suite.Collect(ctx, j.suiteWorkers(source), suite.Plan{
		Images: n, Features: j.network.features(), Classes: j.network.classes(), Block: j.o.Batch, File: work,
		Progress: func(done, found int) { j.o.Progress(what, done, n, found) },
	})
	if err != nil {
		return nil, "", err
	}
	j.o.Progress("comparing", 0, 1, 0)
	metrics, err = suite.Measure(j.network.name(), c, against, j.definition.KID)
	if err != nil {
		return nil, "", err
	}
	// Where the network is the data set's classifier, its classes are the model's.
	if k := j.classes(); k > 0 && k == j.network.classes() {
		suite.Classify(metrics, j.network.name(), c, func(i int) int { return int(j.model.Sampler.Guidance.Class(uint64(i), k)) })
	}
	if j.heldOut != nil {
		loss, err := j.loss(ctx)
		if err != nil {
			return nil, "", err
		}
		metrics[suite.HeldOutLoss] = loss
	}
	return metrics, work, nil
}

// classes is how many classes a conditional model generates, 0 of others.
func (j *judge) classes() int {
	if j.model.Images != nil {
		return 0
	}
	k := j.model.Config.Model.NumClassEmbeds
	if k > 0 && j.model.Sampler.Guidance.HasNone {
		k--
	}
	return k
}

// Digest is the SHA-256 of weights, over their names, shapes and values in the order
// of the names.
func Digest(list []weights.Tensor) string {
	sorted := slices.SortedFunc(slices.Values(list), func(a, b weights.Tensor) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	var raw []byte
	for _, t := range sorted {
		fmt.Fprintln(h, t.Name, t.Shape)
		raw = raw[:0]
		for _, v := range t.Data {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}
