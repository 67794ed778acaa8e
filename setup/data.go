package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agrdist/agrdist/config"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/internal/sealed"
	"github.com/agrdist/agrdist/internal/vfs"
)

// DataConfig translates the data section; index is the list of images of a
// folder, nil where it is not known yet.
func DataConfig(c *config.Config, index *data.Index) data.Config {
	d := data.DefaultConfig()
	d.Name, d.Dir, d.Size, d.Channels = c.Data.Name, c.Data.Dir, c.Model.SampleSize, c.Model.InChannels
	d.Holdout, d.Verify, d.Corrupt, d.Index = c.Data.Holdout, c.Data.Verify, c.Data.Corrupt, index
	return d
}

// ScanData looks at the training images once, before any worker is started, and
// puts their fingerprint into the configuration, or compares it with the one that
// is there: all ranks, and whoever resumes, then train on the same images. index
// is nil for data sets that are no image folder. What is wrong with the data is a
// *config.Error: it would be wrong again after a restart.
func ScanData(ctx context.Context, c *config.Config, progress func(what string, done, total int)) (index *data.Index, err error) {
	if c.Data.Name == data.Folder {
		index, err = data.Scan(ctx, data.ScanConfig{
			Dir: c.Data.Dir, Verify: c.Data.Verify, Corrupt: c.Data.Corrupt,
			CachePath: data.DefaultCachePath(c.Data.Dir), Stall: config.Duration(c.Cluster.StepDeadline), Progress: progress,
		})
		if err != nil {
			return nil, &config.Error{Source: "data", Err: err}
		}
	}
	set, err := data.Open(DataConfig(c, index))
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	found := data.Fingerprint(set)
	if err := errors.Join(labelled(c, set), data.Close(set)); err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	if want := c.Data.Fingerprint; want != "" && want != found {
		return nil, &config.Error{Source: "data", Err: &FingerprintError{Dir: c.Data.Dir, Want: want, Found: found}}
	}
	c.SetFingerprint(found)
	return index, nil
}

// labelled checks that every image has a label that a conditional model knows.
func labelled(c *config.Config, set data.Dataset) error {
	classes := c.Model.NumClassEmbeds
	if classes == 0 {
		return nil
	}
	also := ""
	if c.Data.LabelDropout > 0 {
		classes--
		also = ", and one more for dropped labels"
	}
	most := 0
	for i := range set.Len() {
		l := set.Label(i)
		if l < 0 {
			return fmt.Errorf("%s has no label; a conditional model (model.num_class_embeds) needs one for every image: put images in one directory for each class", data.NameOf(set, i))
		}
		most = max(most, l)
	}
	if most >= classes {
		return fmt.Errorf("%s has labels up to %d; set model.num_class_embeds to its %d classes%s", set.Name(), most, most+1, also)
	}
	return nil
}

// FingerprintError says that the images are not those that a configuration names.
type FingerprintError struct{ Dir, Want, Found string }

func (e *FingerprintError) Error() string {
	return fmt.Sprintf("the images in %q have changed: data.fingerprint (their number and a hash of the list) is %s, and now they are %s; put the old ones back, or start a new run with data.fingerprint= (empty)",
		e.Dir, e.Want, e.Found)
}

// The files of a run's directory that say what it trains on. The list of images
// goes by its fingerprint, so that nodes may share the directory.
const (
	dataDir     = "data"
	skippedFile = "skipped.txt"
)

func indexFile(runDir, fingerprint string) string {
	return filepath.Join(runDir, dataDir, "images-"+fingerprint+".txt")
}

// WriteIndex puts a folder's list of images into the run's directory, where the
// workers find it, and beside it the list of what is not used. It returns the
// latter's path, empty where everything is used.
func WriteIndex(runDir string, index *data.Index) (skipped string, err error) {
	if index == nil {
		return "", nil
	}
	if err := os.MkdirAll(filepath.Join(runDir, dataDir), 0o755); err != nil {
		return "", err
	}
	var list bytes.Buffer
	if err := index.Encode(&list); err != nil {
		return "", err
	}
	if err := sealed.Replace(vfs.OS{}, indexFile(runDir, index.Fingerprint()), list.Bytes()); err != nil {
		return "", err
	}
	if len(index.Skipped) == 0 {
		return "", nil
	}
	list.Reset()
	for _, s := range index.Skipped {
		fmt.Fprintln(&list, s)
	}
	skipped = filepath.Join(runDir, dataDir, skippedFile)
	return skipped, sealed.Replace(vfs.OS{}, skipped, list.Bytes())
}

// Dataset opens the training images of a run. A folder's list of images is the
// one that was written when the run started; where it is missing the folder is
// scanned again. Images that are not those of the configuration's fingerprint are
// refused.
func Dataset(c *config.Config, runDir string) (data.Dataset, error) {
	refuse := func(err error) (data.Dataset, error) { return nil, &config.Error{Source: "data", Err: err} }
	index, err := readIndex(c, runDir)
	if err != nil {
		return refuse(err)
	}
	set, err := data.Open(DataConfig(c, index))
	if err != nil {
		return refuse(err)
	}
	if found := data.Fingerprint(set); c.Data.Fingerprint != "" && found != c.Data.Fingerprint {
		return refuse(errors.Join(&FingerprintError{Dir: c.Data.Dir, Want: c.Data.Fingerprint, Found: found}, data.Close(set)))
	}
	return set, nil
}

// readIndex reads the list of a folder's images that was written when the run started;
// nil where there is none.
func readIndex(c *config.Config, runDir string) (*data.Index, error) {
	if runDir == "" || c.Data.Name != data.Folder || c.Data.Fingerprint == "" {
		return nil, nil
	}
	path := indexFile(runDir, c.Data.Fingerprint)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := data.DecodeIndex(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file, and the folder is read again", path, err)
	}
	return index, nil
}

// HeldOut opens the images that the held-out loss is measured on: what data.holdout
// keeps from training, else CIFAR-10's test images; nil where there are none. runDir
// is the run's directory, empty where it is not known.
func HeldOut(c *config.Config, runDir string) (data.Dataset, error) {
	index, err := readIndex(c, runDir)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	d := DataConfig(c, index)
	switch {
	case c.Data.Holdout > 0:
		d.Split = data.SplitHeldOut
	case c.Data.Name == data.CIFAR10:
		d.Split = data.SplitTest
	default:
		return nil, nil
	}
	set, err := data.Open(d)
	if err != nil {
		return nil, &config.Error{Source: "data", Err: err}
	}
	return set, nil
}
