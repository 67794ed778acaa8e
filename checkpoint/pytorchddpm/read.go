package pytorchddpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/agrdist/agrdist/checkpoint/pth"
	"github.com/agrdist/agrdist/nn/weights"
)

// ErrModel is wrapped by the errors about a file whose tensors are those of another model.
var ErrModel = errors.New("its tensors are not those of pytorch-ddpm's UNet")

// Checkpoint is a file as diffusers would have stored it.
type Checkpoint struct {
	UNetConfig      []byte // of a UNet2DModel
	SchedulerConfig []byte // of a DDPMScheduler
	Net             []weights.Tensor
	EMA             []weights.Tensor // nil where the file has none
}

// The names that state dictionaries have in checkpoints of main.py and its descendants.
var (
	netNames = []string{"net_model", "model", "model_state_dict", "state_dict"}
	emaNames = []string{"ema_model", "ema", "ema_state_dict"}
)

// ReadFile reads a checkpoint; the moving average only where ema is set. Errors wrap
// pth.ErrFormat, pth.ErrForbidden or ErrModel.
func ReadFile(path string, ema bool) (c *Checkpoint, err error) {
	f, err := pth.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	groups := f.Groups()
	net, average := first(groups, netNames), first(groups, emaNames)
	switch {
	case len(groups) > 0 && net == "" && average == "":
		return nil, fmt.Errorf("%w: it has %.200s; a model's weights are expected in net_model and ema_model", ErrModel, strings.Join(groups, ", "))
	case net == "" && average != "":
		net, average = average, ""
	}
	size := 32
	if shape, ok := f.Shape("x_T"); ok && len(shape) == 4 && shape[2] == shape[3] && shape[2] > 0 {
		size = shape[2] // main.py keeps the noise of its sample grid
	}
	tensors, err := f.Tensors(net)
	if err != nil {
		return nil, err
	}
	if c, err = Convert(tensors, size); err != nil || average == "" || !ema {
		return c, err
	}
	if tensors, err = f.Tensors(average); err != nil {
		return nil, err
	}
	other, err := Convert(tensors, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", average, err)
	}
	if string(other.UNetConfig) != string(c.UNetConfig) {
		return nil, fmt.Errorf("%w: %s is another model than %s", ErrModel, average, net)
	}
	c.EMA = other.Net
	return c, nil
}

func first(groups, names []string) string {
	for _, n := range names {
		if slices.Contains(groups, n) {
			return n
		}
	}
	return ""
}

// table is the embedding of the timesteps, which is a formula.
const table = "time_embedding.timembedding.0.weight"

// Convert gives a state dictionary's tensors, for images of size x size, the names and
// shapes of diffusers.
func Convert(tensors map[string]pth.Tensor, size int) (*Checkpoint, error) {
	in := make(map[string]pth.Tensor, len(tensors))
	for name, t := range tensors {
		in[strings.TrimPrefix(name, "module.")] = t // of DataParallel
	}
	s, err := shapeOf(in)
	if err != nil {
		return nil, err
	}
	steps, err := timesteps(in[table])
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{}
	taken := 1 // the table
	for _, n := range s.Names() {
		t, ok := in[n.Theirs]
		if !ok {
			if strings.Contains(n.Theirs, ".shortcut.") {
				continue // the model says which it needs
			}
			return nil, fmt.Errorf("%w: %q is missing", ErrModel, n.Theirs)
		}
		taken++
		for i, v := range t.Data {
			if v-v != 0 {
				return nil, fmt.Errorf("%w: element %d of %q is %v: a training that diverged", ErrModel, i, n.Theirs, v)
			}
		}
		c.Net = append(c.Net, convert(n, t))
	}
	if taken != len(in) {
		return nil, unknown(in, s)
	}
	c.UNetConfig, err = unetConfig(in, s, size)
	if err != nil {
		return nil, err
	}
	c.SchedulerConfig, err = marshal(map[string]any{
		"_class_name": "DDPMScheduler", "_diffusers_version": "0.31.0", "num_train_timesteps": steps,
		"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "variance_type": "fixed_large",
		"prediction_type": "epsilon", "clip_sample": true, "clip_sample_range": 1.0, "timestep_spacing": "leading", "steps_offset": 0,
	})
	return c, err
}

func unknown(in map[string]pth.Tensor, s Shape) error {
	known := map[string]bool{table: true}
	for _, n := range s.Names() {
		known[n.Theirs] = true
	}
	var names []string
	for name := range in {
		if !known[name] {
			names = append(names, name)
		}
	}
	return fmt.Errorf("%w: it also has %q", ErrModel, slices.Min(names))
}

// convert is one tensor.
func convert(n Name, t pth.Tensor) weights.Tensor {
	out := weights.Tensor{Name: n.Diffusers, Shape: slices.Clone(t.Shape), Data: t.Data}
	switch {
	case strings.Contains(n.Diffusers, ".attentions.") && len(t.Shape) == 4: // 1x1 convolutions
		out.Shape = out.Shape[:2]
	case n.Diffusers == "time_embedding.linear_1.weight" && len(t.Shape) == 2:
		// Sines and cosines alternate; diffusers has all sines first.
		width := t.Shape[1]
		out.Data = make([]float32, len(t.Data))
		for i := range t.Data {
			row, col := i/width*width, i%width
			out.Data[row+col/2+col%2*(width/2)] = t.Data[i]
		}
	}
	return out
}

// shapeOf works out how many levels and blocks there are.
func shapeOf(in map[string]pth.Tensor) (Shape, error) {
	for _, name := range []string{table, "head.weight", "downblocks.0.block1.2.weight"} {
		if t, ok := in[name]; !ok || len(t.Shape) < 2 {
			hint := ""
			if _, ok := in["conv_in.weight"]; ok {
				hint = "; it is a model of diffusers: give the directory that it was saved in, with its config.json"
			}
			return Shape{}, fmt.Errorf("%w: %q is missing%s", ErrModel, name, hint)
		}
	}
	s := Shape{Levels: 1}
	blocks := 0 // of the level
	for at := 0; ; at++ {
		name := fmt.Sprintf("downblocks.%d.", at)
		if _, ok := in[name+"block1.2.weight"]; ok {
			if _, ok := in[name+"attn.proj_q.weight"]; ok && blocks == 0 {
				s.Attention = append(s.Attention, s.Levels-1)
			}
			blocks++
			continue
		}
		if _, ok := in[name+"main.weight"]; !ok {
			break
		}
		if s.Levels == 1 {
			s.Blocks = blocks
		}
		blocks = 0
		s.Levels++
	}
	if s.Levels == 1 {
		s.Blocks = blocks
	}
	return s, nil
}

// unetConfig is diffusers' document of the model.
func unetConfig(in map[string]pth.Tensor, s Shape, size int) ([]byte, error) {
	channels := func(name string, axis int) (int, error) {
		if t := in[name]; axis < len(t.Shape) {
			return t.Shape[axis], nil
		}
		return 0, fmt.Errorf("%w: %q has shape %v", ErrModel, name, in[name].Shape)
	}
	var errs []error
	must := func(n int, err error) int {
		errs = append(errs, err)
		return n
	}
	levels := make([]int, s.Levels)
	down, up := make([]string, s.Levels), make([]string, s.Levels)
	for i := range levels {
		levels[i] = must(channels(fmt.Sprintf("downblocks.%d.block1.2.weight", i*(s.Blocks+1)), 0))
		down[i], up[s.Levels-1-i] = "DownBlock2D", "UpBlock2D"
		if slices.Contains(s.Attention, i) {
			down[i], up[s.Levels-1-i] = "AttnDownBlock2D", "AttnUpBlock2D"
		}
	}
	doc := map[string]any{
		"_class_name": "UNet2DModel", "_diffusers_version": "0.31.0",
		"sample_size": size, "in_channels": must(channels("head.weight", 1)), "out_channels": must(channels("tail.2.weight", 0)),
		"block_out_channels": levels, "down_block_types": down, "up_block_types": up, "layers_per_block": s.Blocks,
		"act_fn": "silu", "add_attention": true, "attention_head_dim": nil, "center_input_sample": false,
		"class_embed_type": nil, "downsample_padding": 1, "downsample_type": "conv", "upsample_type": "conv",
		"dropout": 0.1, "flip_sin_to_cos": false, "freq_shift": 0, "mid_block_scale_factor": 1,
		"norm_eps": 1e-5, "norm_num_groups": 32, "num_class_embeds": nil, "resnet_time_scale_shift": "default",
		"time_embedding_type": "positional",
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return marshal(doc)
}

func marshal(doc map[string]any) ([]byte, error) {
	b, err := json.MarshalIndent(doc, "", "  ")
	return append(b, '\n'), err
}

// timesteps is the number of rows of the embedding, which must be the formula's.
func timesteps(t pth.Tensor) (int, error) {
	if len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[1] < 2 || t.Shape[1]%2 != 0 {
		return 0, fmt.Errorf("%w: %q has shape %v", ErrModel, table, t.Shape)
	}
	width := t.Shape[1]
	for i, v := range t.Data {
		step, col := i/width, i%width
		angle := float64(step) * math.Pow(10000, -float64(col/2*2)/float64(width))
		want := math.Sin(angle)
		if col%2 == 1 {
			want = math.Cos(angle)
		}
		if !(math.Abs(float64(v)-want) < 1e-3) {
			return 0, fmt.Errorf("%w: %q is %g at [%d, %d], the formula's value is %.4g", ErrModel, table, v, step, col, want)
		}
	}
	return t.Shape[0], nil
}
