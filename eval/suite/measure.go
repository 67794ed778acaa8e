package suite

import (
	"fmt"
	"slices"

	"github.com/agrdist/agrdist/eval"
)

// Names of the metrics of the FID Inception. Those of another network have its name in
// front: digits-is, digits-fd, digits-kd, digits-precision, ...
const (
	InceptionScore = "is"
	FID            = "fid"
	KernelDistance = "kid"
	Precision      = "precision"
	Recall         = "recall"
	Density        = "density"
	Coverage       = "coverage"
	// Sure is the part of images that the network gives a class with a probability of
	// 0.9 or more.
	Sure = "sure"
	// Accuracy is the part of a conditional model's images that the network gives the
	// class they were generated as.
	Accuracy = "accuracy"
	// HeldOutLoss is the denoising loss of package heldout.
	HeldOutLoss = "heldout-loss"
)

const sureFrom = 0.9

// maxNeighbours bounds the images of precision and recall, whose time is quadratic.
const maxNeighbours = 10_000

// Against is the reference: feature vectors, or, from a statistics file, their mean
// and covariance alone.
type Against struct {
	Features   *eval.Features
	Statistics *eval.Statistics // nil: of Features
}

// KIDFor is the estimate for sets of these sizes: 100 subsets of 1000 images, or of as
// many as there are.
func KIDFor(generated, reference int) KID {
	d := eval.DefaultKIDConfig()
	return KID{Subsets: d.Subsets, SubsetSize: min(d.SubsetSize, generated, reference)}
}

// Classify adds the accuracy: class is what image i was generated as.
func Classify(metrics map[string]Metric, network string, c Collection, class func(i int) int) {
	right := 0
	for i := range c.Logits.Len() {
		row := c.Logits.Row(i)
		if slices.Index(row, slices.Max(row)) == class(i) {
			right++
		}
	}
	metrics[network+"-"+Accuracy] = Metric{Value: float64(right) / float64(c.Logits.Len())}
}

// Measure computes every metric that the reference allows: without feature vectors,
// the Inception Score and the Frechet distance.
func Measure(network string, c Collection, against Against, k KID) (map[string]Metric, error) {
	out := map[string]Metric{}
	name := func(metric string) string {
		switch {
		case network == "":
			return metric
		case metric == FID:
			metric = "fd" // a Frechet distance, not the one of Inception
		case metric == KernelDistance:
			metric = "kd"
		}
		return network + "-" + metric
	}
	n := c.Logits.Len()
	if n >= eval.DefaultSplits {
		score, err := eval.NewScore(n, eval.DefaultSplits, c.Logits.Dim)
		if err != nil {
			return nil, err
		}
		score.Add(c.Logits.Data)
		mean, std, err := score.Result()
		if err != nil {
			return nil, err
		}
		out[name(InceptionScore)] = Metric{mean, &std}
	}
	if network != "" { // of 1008 classes of photographs, sureness says nothing
		out[name(Sure)] = Metric{Value: sure(c.Logits)}
	}
	m := eval.NewMoments(c.Features.Dim)
	m.Add(c.Features.Data)
	own, err := m.Statistics()
	if err != nil {
		return nil, err
	}
	other := against.Statistics
	if other == nil {
		if other, err = statistics(*against.Features); err != nil {
			return nil, err
		}
	}
	fid, err := eval.Frechet(own, *other)
	if err != nil {
		return nil, err
	}
	out[name(FID)] = Metric{Value: fid}
	if against.Features == nil {
		return out, nil
	}
	return out, neighbours(out, name, c.Features, *against.Features, k)
}

func statistics(f eval.Features) (*eval.Statistics, error) {
	m := eval.NewMoments(f.Dim)
	m.Add(f.Data)
	s, err := m.Statistics()
	return &s, err
}

// neighbours adds the metrics that compare image with image.
func neighbours(out map[string]Metric, name func(string) string, generated, reference eval.Features, k KID) error {
	config := eval.DefaultKIDConfig()
	config.Subsets, config.SubsetSize = k.Subsets, k.SubsetSize
	if config.SubsetSize >= 2 {
		mean, std, err := eval.KID(generated, reference, config)
		if err != nil {
			return err
		}
		out[name(KernelDistance)] = Metric{mean, &std}
	}
	first := func(f eval.Features) eval.Features {
		return eval.Features{Dim: f.Dim, Data: f.Data[:min(f.Len(), maxNeighbours)*f.Dim]}
	}
	generated, reference = first(generated), first(reference)
	pr := eval.DefaultPRConfig()
	if min(generated.Len(), reference.Len()) <= max(pr.K, pr.CoverageK) {
		return nil
	}
	r, err := eval.PrecisionRecall(generated, reference, pr)
	if err != nil {
		return err
	}
	out[name(Precision)], out[name(Recall)] = Metric{Value: r.Precision}, Metric{Value: r.Recall}
	out[name(Density)], out[name(Coverage)] = Metric{Value: r.Density}, Metric{Value: r.Coverage}
	return nil
}

// sure is the part of rows whose largest probability is at least sureFrom.
func sure(logits eval.Features) float64 {
	n := 0
	for i := range logits.Len() {
		if p := eval.Softmax(logits.Row(i)); slices.Max(p) >= sureFrom {
			n++
		}
	}
	return float64(n) / float64(logits.Len())
}

// Format prints a metric as a person reads it: value, and ± its deviation.
func (m Metric) Format() string {
	if m.Deviation == nil {
		return fmt.Sprintf("%.5g", m.Value)
	}
	return fmt.Sprintf("%.5g ± %.2g", m.Value, *m.Deviation)
}
