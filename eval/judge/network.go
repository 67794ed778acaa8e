package judge

import (
	"context"
	"fmt"
	"runtime"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval/classifier"
	"github.com/agrdist/agrdist/eval/inception"
	"github.com/agrdist/agrdist/setup"
)

// network is the network whose features are taken.
type network interface {
	name() string // the prefix of the metrics; empty: the FID Inception
	digest() string
	features() int
	classes() int
	// accepts refuses images of a size that the network does not take; nil is fine.
	accepts(set data.Dataset) error
}

// extractor is the network on one worker's device.
type extractor interface {
	// extract fills the features [n, features] and logits [n, classes] of n images
	// [n, height, width, channels].
	extract(features, logits, images []float32, height, width, channels int) error
}

// openNetwork opens the network on each worker.
func (j *judge) openNetwork(ctx context.Context) error {
	if j.o.Inception != "" {
		return j.openInception()
	}
	c := j.model.Config.Data
	set, err := j.dataset(data.SplitTrain, 0) // all of it: the classifier is the data set's, not the run's
	if err != nil {
		return err
	}
	own := own{prefix: c.Name}
	for _, w := range j.workers {
		k, err := classifier.Open(ctx, w.dev.Backend, set, classifier.Options{
			CacheDir: j.o.CacheDir, Progress: func(done, total int) { j.o.Progress("training the classifier", done, total, 0) },
		})
		if err != nil {
			return err
		}
		if own.Classifier == nil {
			own.Classifier = k
			if own.sum, err = k.Digest(); err != nil {
				return err
			}
			if own.right, err = k.Accuracy(set); err != nil {
				return err
			}
		}
		w.extract = onWorker{k}
	}
	j.network = own
	return nil
}

// inceptionBatch is how many images of 299x299 a worker computes at once: some 40 MB of
// memory each.
const inceptionBatch = 4

// openInception opens the FID Inception on a processor for each worker, also where the
// images come from a GPU.
func (j *judge) openInception() error {
	weights, err := inception.Open(j.o.Inception)
	if err != nil {
		return &config.Error{Source: "--inception", Err: err}
	}
	j.network = published{weights.Digest}
	for _, w := range j.workers {
		threads := 1
		if len(j.workers) == 1 {
			threads = runtime.GOMAXPROCS(0)
		}
		dev, err := setup.Open(setup.DeviceConfig{Device: "cpu", Threads: threads})
		if err != nil {
			return err
		}
		j.closers = append(j.closers, dev.Close)
		n, err := inception.New(dev.Backend, weights, inceptionBatch)
		if err != nil {
			return err
		}
		w.extract = onProcessor{n}
	}
	return nil
}

// published is the FID Inception.
type published struct{ sum string }

func (p published) name() string   { return "" }
func (p published) digest() string { return p.sum }
func (p published) features() int  { return inception.Features }
func (p published) classes() int   { return inception.Classes }

func (p published) accepts(data.Dataset) error { return nil } // it resizes

type onProcessor struct{ *inception.Network }

func (o onProcessor) extract(features, logits, images []float32, height, width, channels int) error {
	return o.Extract(features, logits, images, height, width, channels)
}

// own is the data set's classifier.
type own struct {
	*classifier.Classifier
	prefix, sum string
	right       float64 // part of the images that it was not trained on
}

func (o own) name() string   { return o.prefix }
func (o own) digest() string { return o.sum }
func (o own) features() int  { return o.Config().Features }
func (o own) classes() int   { return o.Config().Classes }

func (o own) accepts(set data.Dataset) error {
	if set == nil {
		return nil
	}
	c := o.Config()
	if h, w, channels := set.Size(); h != c.Size || w != c.Size || channels != c.Channels {
		return &config.Error{Source: "images", Err: fmt.Errorf("%s is %dx%dx%d; the classifier of %s takes %dx%dx%d: name the images' data set with --data, or give --inception",
			set.Name(), h, w, channels, o.prefix, c.Size, c.Size, c.Channels)}
	}
	return nil
}

type onWorker struct{ *classifier.Classifier }

func (w onWorker) extract(features, logits, images []float32, _, _, _ int) error {
	return w.Classify(features, logits, images)
}
