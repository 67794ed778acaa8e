package judge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/eval"
	"github.com/agrdist/agrdist/eval/heldout"
	"github.com/agrdist/agrdist/eval/npz"
	"github.com/agrdist/agrdist/eval/suite"
	"github.com/agrdist/agrdist/setup"
)

// reference is what generated images are compared with: a data set, or statistics.
type reference struct {
	set        data.Dataset
	statistics *eval.Statistics
	name, sum  string
}

func (r *reference) len() int {
	if r.set == nil {
		return maxImages // a statistics file does not say
	}
	return r.set.Len()
}

func (r *reference) describe() suite.Reference {
	d := suite.Reference{Name: r.name, Digest: r.sum}
	if r.set != nil {
		d.Images = r.set.Len()
	}
	return d
}

// dataset opens a part of the model's data set.
func (j *judge) dataset(split string, holdout int) (data.Dataset, error) {
	d := setup.DataConfig(j.model.Config, nil)
	d.Split, d.Holdout = split, holdout
	if j.model.Images != nil { // there is no model whose size counts
		d.Size, d.Channels = 0, 0
		if d.Name == data.Folder {
			d.Size, _, d.Channels = j.model.Images.Size()
		}
	}
	set, err := data.Open(d)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	j.closers = append(j.closers, func() error { return data.Close(set) })
	return set, nil
}

func (j *judge) openReference(ctx context.Context) (err error) {
	r := &reference{name: j.o.Reference}
	j.reference = r
	held := j.model.Config.Data.Holdout
	switch j.o.Reference {
	case Train:
		r.set, err = j.dataset(data.SplitTrain, held)
	case HeldOut:
		r.set, err = j.dataset(data.SplitHeldOut, held)
	case Test:
		r.set, err = j.dataset(data.SplitTest, 0)
	default:
		if isStatistics(j.o.Reference) {
			return r.read(j.o.Reference, j.network.features())
		}
		if r.set, err = OpenImages(ctx, j.o.Reference); err != nil {
			return &config.Error{Source: "--reference", Err: err}
		}
		j.closers = append(j.closers, func() error { return data.Close(r.set) })
	}
	if err != nil {
		return err
	}
	r.name = r.set.Name()
	sum, err := data.Digest(r.set)
	if err == nil {
		r.sum = sum[:16]
	}
	return err
}

// isStatistics says whether a path is an npz file with a mean and a covariance.
func isStatistics(path string) bool {
	f, err := npz.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	return slices.Contains(f.Names(), "mu") || slices.Contains(f.Names(), "sigma")
}

// read reads a statistics file.
func (r *reference) read(path string, features int) (err error) {
	refuse := func(err error) error { return &config.Error{Source: "--reference", Err: err} }
	raw, err := os.ReadFile(path)
	if err != nil {
		return refuse(err)
	}
	f, err := npz.Open(path)
	if err != nil {
		return refuse(err)
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	s, err := eval.ReadStatistics(f)
	if err != nil {
		return refuse(fmt.Errorf("%s: %w", path, err))
	}
	if len(s.Mu) != features {
		return refuse(fmt.Errorf("%s has statistics of %d features, the network has %d: they come from different networks", path, len(s.Mu), features))
	}
	sum := sha256.Sum256(raw)
	r.statistics, r.name, r.sum = &s, filepath.Base(path), hex.EncodeToString(sum[:8])
	return nil
}

// collect takes the features of the reference; what was taken before is in the cache.
func (r *reference) collect(ctx context.Context, j *judge) (suite.Against, error) {
	if r.statistics != nil {
		return suite.Against{Statistics: r.statistics}, nil
	}
	n, file := r.set.Len(), ""
	if j.o.CacheDir != "" {
		key := sha256.Sum256(fmt.Append(nil, r.sum, n, j.network.digest(), j.definition.Device, j.o.Batch))
		file = filepath.Join(j.o.CacheDir, "reference-"+hex.EncodeToString(key[:8])+".features")
	}
	c, err := suite.Collect(ctx, j.suiteWorkers(func(w *worker) suite.Worker { return reader{w, r.set} }), suite.Plan{
		Images: n, Features: j.network.features(), Classes: j.network.classes(), Block: j.o.Batch, File: file, Shared: true,
		Progress: func(done, found int) { j.o.Progress("reference", done, n, found) },
	})
	return suite.Against{Features: &c.Features}, err
}

// openHeldOut opens the images for the held-out loss: what data.holdout kept from
// training, else the test split of a data set that has one.
func (j *judge) openHeldOut() (err error) {
	j.heldOut, err = setup.HeldOut(j.model.Config, "")
	if err != nil {
		return err
	}
	if j.heldOut == nil {
		if j.o.LossOnly {
			err = &config.Error{Source: "data.holdout", Err: errors.New("it is 0: there are no images to measure the held-out loss on; set it to their number")}
		}
		return err
	}
	j.closers = append(j.closers, func() error { return data.Close(j.heldOut) })
	digest, err := data.Digest(j.heldOut)
	if err == nil {
		j.definition.HeldOut = &suite.HeldOut{Images: j.heldOut.Len(), Strata: heldout.DefaultConfig().Strata, Digest: digest[:16]}
	}
	return err
}
