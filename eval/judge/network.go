package judge

import (
	"context"
	"errors"

	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval/classifier"
)

// network is the network whose features are taken.
type network interface {
	name() string // the prefix of the metrics; empty: the FID Inception
	digest() string
	features() int
	classes() int
}

// extractor is the network on one worker's device.
type extractor interface {
	// extract fills the features [n, features] and logits [n, classes] of n images.
	extract(features, logits, images []float32) error
}

// openNetwork opens the network on each worker.
func (j *judge) openNetwork(ctx context.Context) error {
	if j.o.Inception != "" {
		return errors.New("--inception is not implemented yet")
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
		}
		w.extract = onWorker{k}
	}
	j.network = own
	return nil
}

// own is the data set's classifier.
type own struct {
	*classifier.Classifier
	prefix, sum string
}

func (o own) name() string   { return o.prefix }
func (o own) digest() string { return o.sum }
func (o own) features() int  { return o.Config().Features }
func (o own) classes() int   { return o.Config().Classes }

type onWorker struct{ *classifier.Classifier }

func (w onWorker) extract(features, logits, images []float32) error {
	return w.Classify(features, logits, images)
}
