package unet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ErrUnsupported is wrapped by the errors about a diffusers configuration that
// describes another network than this package has.
var ErrUnsupported = errors.New("unet: unsupported diffusers config")

// diffusersConfig is unet/config.json of a UNet2DModel, in the order diffusers
// writes it. Pointers are the fields that may be null.
type diffusersConfig struct {
	ClassName           string         `json:"_class_name"`
	DiffusersVersion    string         `json:"_diffusers_version"`
	ActFn               string         `json:"act_fn"`
	AddAttention        bool           `json:"add_attention"`
	AttentionHeadDim    *int           `json:"attention_head_dim"`
	AttnNormNumGroups   *int           `json:"attn_norm_num_groups"`
	BlockOutChannels    []int          `json:"block_out_channels"`
	CenterInputSample   bool           `json:"center_input_sample"`
	ClassEmbedType      *string        `json:"class_embed_type"`
	DownBlockTypes      []string       `json:"down_block_types"`
	DownsamplePadding   int            `json:"downsample_padding"`
	DownsampleType      string         `json:"downsample_type"`
	Dropout             float64        `json:"dropout"`
	FlipSinToCos        bool           `json:"flip_sin_to_cos"`
	FreqShift           int            `json:"freq_shift"`
	InChannels          int            `json:"in_channels"`
	LayersPerBlock      int            `json:"layers_per_block"`
	MidBlockScaleFactor float64        `json:"mid_block_scale_factor"`
	MidBlockType        string         `json:"mid_block_type"`
	NormEps             float64        `json:"norm_eps"`
	NormNumGroups       int            `json:"norm_num_groups"`
	NumClassEmbeds      *int           `json:"num_class_embeds"`
	NumTrainTimesteps   *int           `json:"num_train_timesteps"`
	OutChannels         int            `json:"out_channels"`
	ResnetTimeShift     string         `json:"resnet_time_scale_shift"`
	SampleSize          *diffusersSize `json:"sample_size"`
	TimeEmbeddingType   string         `json:"time_embedding_type"`
	UpBlockTypes        []string       `json:"up_block_types"`
	UpsampleType        string         `json:"upsample_type"`
}

const (
	diffusersClass   = "UNet2DModel"
	diffusersVersion = "0.31.0" // the first with every field that ToDiffusers writes

	downBlock2D     = "DownBlock2D"
	attnDownBlock2D = "AttnDownBlock2D"
	upBlock2D       = "UpBlock2D"
	attnUpBlock2D   = "AttnUpBlock2D"
)

// The values of resnet_time_scale_shift: Config.ScaleShift false and true.
const (
	TimeDefault    = "default"
	TimeScaleShift = "scale_shift"
)

// diffusersDefaults is what UNet2DModel's constructor takes for absent fields.
func diffusersDefaults() diffusersConfig {
	headDim := 8
	return diffusersConfig{
		ClassName: diffusersClass, ActFn: "silu", AddAttention: true, AttentionHeadDim: &headDim,
		BlockOutChannels:  []int{224, 448, 672, 896},
		DownBlockTypes:    []string{downBlock2D, attnDownBlock2D, attnDownBlock2D, attnDownBlock2D},
		UpBlockTypes:      []string{attnUpBlock2D, attnUpBlock2D, attnUpBlock2D, upBlock2D},
		DownsamplePadding: 1, DownsampleType: "conv", UpsampleType: "conv", FlipSinToCos: true,
		InChannels: 3, OutChannels: 3, LayersPerBlock: 2, MidBlockScaleFactor: 1, MidBlockType: "UNetMidBlock2D",
		NormEps: 1e-5, NormNumGroups: 32, ResnetTimeShift: TimeDefault, TimeEmbeddingType: "positional",
	}
}

// diffusersSize is a sample size: one number, or height and width.
type diffusersSize [2]int

// UnmarshalJSON reads 32 or [32, 32].
func (s *diffusersSize) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var hw []int
		if err := json.Unmarshal(b, &hw); err != nil {
			return err
		}
		if len(hw) != 2 {
			return fmt.Errorf("sample_size has %d dimensions, want 2", len(hw))
		}
		s[0], s[1] = hw[0], hw[1]
		return nil
	}
	if err := json.Unmarshal(b, &s[0]); err != nil {
		return err
	}
	s[1] = s[0]
	return nil
}

// MarshalJSON writes one number for a square.
func (s *diffusersSize) MarshalJSON() ([]byte, error) { return json.Marshal(s[0]) }

// ConfigFromDiffusers reads unet/config.json of a diffusers model. Absent fields
// take the defaults of UNet2DModel's constructor. Fields that ask for another
// network than this package has give an error wrapping ErrUnsupported, sizes that
// do not fit one wrapping ErrConfig; all faults are named.
func ConfigFromDiffusers(raw []byte) (Config, error) {
	known, err := knownFields(raw)
	if err != nil {
		return Config{}, err
	}
	d := diffusersDefaults()
	if err := json.Unmarshal(known, &d); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	levels, err := d.check()
	if err != nil {
		return Config{}, err
	}
	c := Config{
		SampleSize: d.SampleSize[0], InChannels: d.InChannels, OutChannels: d.OutChannels,
		BlockOutChannels: d.BlockOutChannels, LayersPerBlock: d.LayersPerBlock,
		AttentionLevels: levels, NoMidAttention: !d.AddAttention,
		NormNumGroups: d.NormNumGroups, NormEps: d.NormEps, Dropout: d.Dropout,
		FreqShift: d.FreqShift, FlipSinToCos: d.FlipSinToCos, DownsamplePadding: d.DownsamplePadding,
		ScaleShift: d.ResnetTimeShift == TimeScaleShift,
	}
	if d.AttentionHeadDim != nil {
		c.AttentionHeadDim = *d.AttentionHeadDim
	}
	if d.NumClassEmbeds != nil {
		c.NumClassEmbeds = *d.NumClassEmbeds
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// knownFields returns the object without fields that this package does not know.
// They are refused unless they are off (null or false), as are nulls where a value
// is needed.
func knownFields(raw []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("%w: not a JSON object: %w", ErrUnsupported, err)
	}
	nullable := map[string]bool{}
	for f := range reflect.TypeFor[diffusersConfig]().Fields() {
		nullable[f.Tag.Get("json")] = f.Type.Kind() == reflect.Pointer
	}
	var faults []error
	for name, value := range fields {
		may, known := nullable[name]
		null := string(value) == "null"
		switch {
		case strings.HasPrefix(name, "_") && !known:
		case !known && !null && string(value) != "false":
			faults = append(faults, fmt.Errorf("%w: unknown field %q = %.40s", ErrUnsupported, name, value))
		case known && null && !may:
			faults = append(faults, fmt.Errorf("%w: %s is null", ErrUnsupported, name))
		}
		if !known {
			delete(fields, name)
		}
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(faults...)
	}
	return json.Marshal(fields)
}

// check reports every field that asks for something else, and returns the levels
// with attention.
func (d *diffusersConfig) check() (attention []int, err error) {
	var faults []error
	need := func(ok bool, field string, got, want any) {
		if !ok {
			faults = append(faults, fmt.Errorf("%w: %s is %v, want %v", ErrUnsupported, field, got, want))
		}
	}
	one := func(field, got string, want ...string) {
		need(slices.Contains(want, got), field, fmt.Sprintf("%.40q", got), strings.Join(want, " or "))
	}
	one("_class_name", d.ClassName, diffusersClass)
	one("act_fn", d.ActFn, "silu", "swish")
	one("downsample_type", d.DownsampleType, "conv")
	one("upsample_type", d.UpsampleType, "conv")
	one("mid_block_type", d.MidBlockType, "UNetMidBlock2D")
	one("resnet_time_scale_shift", d.ResnetTimeShift, TimeDefault, TimeScaleShift)
	one("time_embedding_type", d.TimeEmbeddingType, "positional")
	need(!d.CenterInputSample, "center_input_sample", true, false)
	need(d.MidBlockScaleFactor == 1, "mid_block_scale_factor", d.MidBlockScaleFactor, 1)
	need(d.ClassEmbedType == nil, "class_embed_type", "set", "null")
	if n := d.NumClassEmbeds; n != nil {
		need(*n > 0, "num_class_embeds", *n, "null or a positive number")
	}
	switch g := d.AttnNormNumGroups; {
	case g != nil:
		need(*g == d.NormNumGroups, "attn_norm_num_groups", *g, d.NormNumGroups)
	case d.AddAttention && d.ResnetTimeShift == TimeScaleShift: // diffusers then leaves out the norm
		need(false, "attn_norm_num_groups", "null", fmt.Sprintf("%d: the attention in the middle has a norm here", d.NormNumGroups))
	}
	if h := d.AttentionHeadDim; h != nil {
		need(*h > 0, "attention_head_dim", *h, "null or a positive number")
	}
	if s := d.SampleSize; s == nil {
		faults = append(faults, fmt.Errorf("%w: sample_size is absent or null", ErrUnsupported))
	} else {
		need(s[0] == s[1], "sample_size", fmt.Sprintf("%dx%d", s[0], s[1]), "a square")
	}
	levels := len(d.BlockOutChannels)
	need(len(d.DownBlockTypes) == levels, "down_block_types", fmt.Sprintf("of %d", len(d.DownBlockTypes)), levels)
	need(len(d.UpBlockTypes) == levels, "up_block_types", fmt.Sprintf("of %d", len(d.UpBlockTypes)), levels)
	for _, name := range d.DownBlockTypes {
		one("down_block_types", name, downBlock2D, attnDownBlock2D)
	}
	for _, name := range d.UpBlockTypes {
		one("up_block_types", name, upBlock2D, attnUpBlock2D)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for i, name := range d.DownBlockTypes {
		down, up := name == attnDownBlock2D, d.UpBlockTypes[levels-1-i] == attnUpBlock2D
		need(down == up, fmt.Sprintf("attention at level %d going up", i), up, down)
		if down {
			attention = append(attention, i)
		}
	}
	return attention, errors.Join(faults...)
}

// ToDiffusers writes unet/config.json for diffusers, every field of it, since the
// constructor's defaults differ from version to version. AttentionLevels come back
// sorted; nothing else is lost.
func (c Config) ToDiffusers() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d := diffusersDefaults()
	d.DiffusersVersion = diffusersVersion
	d.SampleSize = &diffusersSize{c.SampleSize, c.SampleSize}
	d.InChannels, d.OutChannels = c.InChannels, c.OutChannels
	d.BlockOutChannels, d.LayersPerBlock = c.BlockOutChannels, c.LayersPerBlock
	d.AddAttention = !c.NoMidAttention
	d.NormNumGroups, d.NormEps, d.Dropout = c.NormNumGroups, c.NormEps, c.Dropout
	d.FreqShift, d.FlipSinToCos, d.DownsamplePadding = c.FreqShift, c.FlipSinToCos, c.DownsamplePadding
	if c.ScaleShift {
		d.ResnetTimeShift, d.AttnNormNumGroups = TimeScaleShift, &c.NormNumGroups
	}
	d.AttentionHeadDim = nil
	if c.AttentionHeadDim > 0 {
		d.AttentionHeadDim = &c.AttentionHeadDim
	}
	if c.NumClassEmbeds > 0 {
		d.NumClassEmbeds = &c.NumClassEmbeds
	}
	levels := len(c.BlockOutChannels)
	d.DownBlockTypes, d.UpBlockTypes = make([]string, levels), make([]string, levels)
	for i := range levels {
		d.DownBlockTypes[i], d.UpBlockTypes[levels-1-i] = downBlock2D, upBlock2D
		if slices.Contains(c.AttentionLevels, i) {
			d.DownBlockTypes[i], d.UpBlockTypes[levels-1-i] = attnDownBlock2D, attnUpBlock2D
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("unet: diffusers config: %w", err)
	}
	return b.Bytes(), nil
}
