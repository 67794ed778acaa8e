package classifier

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed" // digits.safetensors
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/data"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor"
)

// digitsWeights is the classifier of the embedded digits, trained on the plain Go
// kernels.
//
//go:generate go run ./internal/digits
//go:embed digits.safetensors
var digitsWeights []byte

// keyEntry of a file's metadata says what the weights are a function of.
const keyEntry = "agrdist.classifier"

// sumEntry of a file's metadata is the digest of its weights; files of earlier versions
// have none.
const sumEntry = "agrdist.sha256"

// Identity is everything that a classifier's weights are a function of.
type Identity struct {
	Config  Config
	Data    string // digest of images and labels
	Kernels string // what computed: cpu/go, cpu/avx512, ...
}

// text is the identity in the form it is stored and compared in.
func (id Identity) text() string {
	b, err := json.Marshal(id)
	if err != nil {
		panic("classifier: " + err.Error()) // a field JSON has no form for
	}
	return string(b)
}

// Options say where classifiers are kept and who is told that one is being trained.
type Options struct {
	// CacheDir is where trained weights are kept; empty: they are not.
	CacheDir string
	// Progress, where not nil, is told the training steps done and in all.
	Progress func(done, total int)
}

// Open returns the classifier of a labelled data set: the embedded one for the
// digits, else the one in the cache, else a new one, trained now.
func Open(ctx context.Context, be tensor.Backend, set data.Dataset, o Options) (*Classifier, error) {
	digest, err := data.Digest(set)
	if err != nil {
		return nil, err
	}
	if k, err := embedded(be); err != nil || k.identity.Data == digest {
		return k, err
	}
	size, _, channels := set.Size()
	classes := 0
	for i := range set.Len() {
		classes = max(classes, set.Label(i)+1)
	}
	if classes < 2 {
		return nil, fmt.Errorf("classifier: %s has no labels of two classes to learn; use a labelled data set or --inception", set.Name())
	}
	k, err := New(be, ConfigFor(size, channels, classes, set.Len()))
	if err != nil {
		return nil, err
	}
	k.identity = Identity{Config: k.config, Data: digest, Kernels: be.Name()}
	path := ""
	if o.CacheDir != "" {
		sum := sha256.Sum256([]byte(k.identity.text()))
		path = filepath.Join(o.CacheDir, "classifier-"+hex.EncodeToString(sum[:8])+".safetensors")
		if k.readFile(path) == nil {
			return k, nil
		} // not there, or damaged: it is made again
	}
	if err := k.Train(ctx, set, o.Progress); err != nil {
		return nil, err
	}
	if path == "" {
		return k, nil
	}
	if err := os.MkdirAll(o.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("classifier: cannot keep the weights: %w", err)
	}
	var out bytes.Buffer
	if err := k.Save(&out); err != nil {
		return nil, err
	}
	return k, renameio.WriteFile(path, out.Bytes(), 0o644, renameio.WithTempDir(filepath.Dir(path)))
}

// embedded is the classifier of the embedded digits.
func embedded(be tensor.Backend) (*Classifier, error) {
	f, err := safetensors.Parse(digitsWeights)
	if err != nil {
		return nil, fmt.Errorf("classifier: embedded weights: %w", err)
	}
	var id Identity
	if err := json.Unmarshal([]byte(f.Metadata()[keyEntry]), &id); err != nil {
		return nil, fmt.Errorf("classifier: embedded weights: %w", err)
	}
	k, err := New(be, id.Config)
	if err != nil {
		return nil, err
	}
	k.identity = id
	return k, k.load(f)
}

func (k *Classifier) readFile(path string) error {
	f, err := safetensors.ReadFile(path)
	if err != nil {
		return err
	}
	return k.load(f)
}

// load takes the weights of a file that was saved under the same identity.
func (k *Classifier) load(f *safetensors.File) error {
	if f.Metadata()[keyEntry] != k.identity.text() {
		return errors.New("classifier: the weights belong to another network or data set")
	}
	var list []nn.Tensor
	for _, e := range f.Entries() {
		values, shape, err := f.Float32(e.Name)
		if err != nil {
			return err
		}
		list = append(list, nn.Tensor{Name: e.Name, Shape: shape, Data: values})
	}
	if want, ok := f.Metadata()[sumEntry]; ok {
		if sum, err := fileSum(list); err != nil || sum != want {
			return errors.New("classifier: the weights are damaged")
		}
	}
	flat := make([]float32, k.params.FlatLen())
	if err := k.params.Flatten(flat, list, nil); err != nil {
		return fmt.Errorf("classifier: %w", err)
	}
	k.be.Upload(k.params.Values(), flat)
	return nil
}

// Save writes the weights as safetensors, in PyTorch's layouts.
func (k *Classifier) Save(w io.Writer) error {
	list, err := k.tensors()
	if err != nil {
		return err
	}
	out := make([]safetensors.Tensor, len(list))
	for i, t := range list {
		out[i] = safetensors.Tensor{Name: t.Name, DType: safetensors.F32, Shape: t.Shape, Data: safetensors.Float32s(t.Data)}
	}
	sum, err := fileSum(list)
	if err != nil {
		return err
	}
	return safetensors.Write(w, out, map[string]string{keyEntry: k.identity.text(), sumEntry: sum})
}

func (k *Classifier) tensors() ([]nn.Tensor, error) {
	flat := make([]float32, k.params.FlatLen())
	if err := k.be.Download(flat, k.params.Values()); err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	return k.params.Unflatten(flat), nil
}

// Digest is the SHA-256 of the weights, 16 hexadecimal digits: what a score in this
// classifier's features must be quoted with.
func (k *Classifier) Digest() (string, error) {
	list, err := k.tensors()
	if err != nil {
		return "", err
	}
	return digest(list)
}

// fileSum is digest in the order of the names: a file has one of its own.
func fileSum(list []nn.Tensor) (string, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b nn.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	return digest(list)
}

func digest(list []nn.Tensor) (string, error) {
	h := sha256.New()
	for _, t := range list {
		fmt.Fprintln(h, t.Name, t.Shape)
		if err := binary.Write(h, binary.LittleEndian, t.Data); err != nil {
			return "", fmt.Errorf("classifier: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// TrainNew trains the classifier of a data set, whatever is embedded or cached.
func TrainNew(ctx context.Context, be tensor.Backend, set data.Dataset, c Config) (*Classifier, error) {
	digest, err := data.Digest(set)
	if err != nil {
		return nil, err
	}
	k, err := New(be, c)
	if err != nil {
		return nil, err
	}
	k.identity = Identity{Config: c, Data: digest, Kernels: be.Name()}
	return k, k.Train(ctx, set, nil)
}
