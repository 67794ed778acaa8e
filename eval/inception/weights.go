package inception

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/agrdist/agrdist/checkpoint/pth"
	"github.com/agrdist/agrdist/checkpoint/safetensors"
)

// Published is the SHA-256 of pt_inception-2015-12-05-6726825d.pth, the weights of
// FID: a release file of github.com/mseitzer/pytorch-fid, 95,628,359 bytes.
const Published = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

// Bytes is its size.
const Bytes = 95_628_359

// URL is where it is published.
const URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"

// advice is what to do without the file.
const advice = "get the published weights: agrdist data get inception, or curl -LO " + URL + " (95,628,359 bytes, SHA-256 " + Published + ")"

// Errors of Open, wrapped with the file and what to do.
var (
	ErrNotPublished = errors.New("it is not the published file")
	ErrWeights      = errors.New("its tensors are not those of the FID Inception")
)

// epsilon of every batch norm.
const epsilon = 1e-3

// Weights are the network's, with the batch norms folded in.
type Weights struct {
	Digest string // of the file, 16 hexadecimal digits
	convs  map[string]folded
	fc     []float32 // [Classes, Features]
}

// folded is y = relu(conv(x, w) + bias): w in the project's layout [kh, kw, in, out].
type folded struct {
	layer
	w, bias []float32
}

// Open reads the published .pth file, or a .safetensors file with the same tensors (a
// conversion, or other weights: their digest is part of every result).
func Open(path string) (*Weights, error) {
	tensors, digest, err := read(path)
	if err != nil {
		return nil, err
	}
	w, err := fold(tensors)
	if err != nil {
		return nil, fmt.Errorf("inception: %s: %w", path, err)
	}
	w.Digest = digest[:16]
	return w, nil
}

// read returns the tensors of a file and its SHA-256.
func read(path string) (tensors map[string]pth.Tensor, digest string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("inception: %w; %s", err, advice)
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, "", fmt.Errorf("inception: %s: %w", path, err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	if strings.HasSuffix(path, ".safetensors") {
		tensors, err = readSafetensors(path)
	} else {
		if digest != Published {
			return nil, "", fmt.Errorf("inception: %s: %w: SHA-256 %s; %s, or give other weights as .safetensors", path, ErrNotPublished, digest, advice)
		}
		tensors, err = pth.ReadFile(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("inception: %s: %w", path, err)
	}
	return tensors, digest, nil
}

// Convert writes the weights of a file as a .safetensors file, tensor by tensor, after it
// has checked that they are those of the network. The file at to is replaced whole.
func Convert(from, to string) error {
	tensors, digest, err := read(from)
	if err != nil {
		return err
	}
	if _, err := fold(tensors); err != nil {
		return fmt.Errorf("inception: %s: %w", from, err)
	}
	var list []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		t := tensors[name]
		list = append(list, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: t.Shape, Data: safetensors.Float32s(t.Data)})
	}
	var out bytes.Buffer
	if err := safetensors.Write(&out, list, map[string]string{"source.sha256": digest}); err != nil {
		return fmt.Errorf("inception: %w", err)
	}
	if err := renameio.WriteFile(to, out.Bytes(), 0o644, renameio.WithTempDir(filepath.Dir(to))); err != nil {
		return fmt.Errorf("inception: %w", err)
	}
	return nil
}

func readSafetensors(path string) (map[string]pth.Tensor, error) {
	f, err := safetensors.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]pth.Tensor{}
	for _, e := range f.Entries() {
		if strings.HasSuffix(e.Name, "num_batches_tracked") {
			continue
		}
		values, shape, err := f.Float32(e.Name)
		if err != nil {
			return nil, err
		}
		out[e.Name] = pth.Tensor{Shape: shape, Data: values}
	}
	return out, nil
}

// fold checks the tensors and folds each batch norm into its convolution: with
// s = gamma / sqrt(var + eps), weights w s and bias beta - mean s.
func fold(tensors map[string]pth.Tensor) (*Weights, error) {
	var errs []error
	take := func(name string, shape ...int) []float32 {
		t, ok := tensors[name]
		n := 1
		for _, d := range shape {
			n *= d
		}
		if !ok {
			errs = append(errs, fmt.Errorf("%q is missing", name))
		} else if !slices.Equal(t.Shape, shape) || len(t.Data) != n {
			errs = append(errs, fmt.Errorf("%q is %v, not %v", name, t.Shape, shape))
			ok = false
		}
		if !ok {
			return make([]float32, n)
		}
		return t.Data
	}
	w := &Weights{convs: map[string]folded{}}
	for _, l := range layers() {
		weight := take(l.name+".conv.weight", l.out, l.in, l.kh, l.kw)
		gamma, beta := take(l.name+".bn.weight", l.out), take(l.name+".bn.bias", l.out)
		mean, variance := take(l.name+".bn.running_mean", l.out), take(l.name+".bn.running_var", l.out)
		f := folded{layer: l, w: make([]float32, len(weight)), bias: make([]float32, l.out)}
		for o := range l.out {
			s := float64(gamma[o]) / math.Sqrt(float64(variance[o])+epsilon)
			f.bias[o] = float32(float64(beta[o]) - float64(mean[o])*s)
			for i := range l.in {
				for tap := range l.kh * l.kw {
					f.w[(tap*l.in+i)*l.out+o] = float32(float64(weight[(o*l.in+i)*l.kh*l.kw+tap]) * s)
				}
			}
		}
		w.convs[l.name] = f
	}
	w.fc = take("fc.weight", Classes, Features)
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrWeights, errs[0]) // the first says it; there may be hundreds
	}
	return w, nil
}
