package unet_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agrdist/agrdist/diffusion/unet"
)

// googleCIFAR10 is unet/config.json of google/ddpm-cifar10-32.
const googleCIFAR10 = `{
  "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4",
  "act_fn": "silu", "attention_head_dim": null, "block_out_channels": [128, 256, 256, 256],
  "center_input_sample": false,
  "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
  "downsample_padding": 0, "flip_sin_to_cos": false, "freq_shift": 1, "in_channels": 3,
  "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-06, "norm_num_groups": 32,
  "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
  "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]
}`

func TestConfigFromDiffusers(t *testing.T) {
	want := unet.CIFAR10()
	want.FreqShift, want.NormEps, want.DownsamplePadding, want.Dropout = 1, 1e-6, 0, 0
	got, err := unet.ConfigFromDiffusers([]byte(googleCIFAR10))
	require.NoError(t, err)
	require.Equal(t, want, got)

	// The constructor's defaults.
	got, err = unet.ConfigFromDiffusers([]byte(`{"sample_size": [64, 64]}`))
	require.NoError(t, err)
	require.Equal(t, unet.Config{
		SampleSize: 64, InChannels: 3, OutChannels: 3, BlockOutChannels: []int{224, 448, 672, 896}, LayersPerBlock: 2,
		AttentionLevels: []int{1, 2, 3}, NormNumGroups: 32, NormEps: 1e-5, FlipSinToCos: true, DownsamplePadding: 1,
		AttentionHeadDim: 8,
	}, got)
}

func TestConfigFromDiffusersRefuses(t *testing.T) {
	for name, c := range map[string]struct{ field, value, want string }{
		"another class":     {"_class_name", `"UNet2DConditionModel"`, `_class_name is "UNet2DConditionModel"`},
		"fourier":           {"time_embedding_type", `"fourier"`, `time_embedding_type is "fourier", want positional`},
		"activation":        {"act_fn", `"gelu"`, `act_fn is "gelu"`},
		"block type":        {"down_block_types", `["SkipDownBlock2D","DownBlock2D","DownBlock2D","DownBlock2D"]`, `"SkipDownBlock2D"`},
		"block count":       {"up_block_types", `["UpBlock2D"]`, "up_block_types is of 1, want 4"},
		"asymmetric":        {"up_block_types", `["UpBlock2D","UpBlock2D","UpBlock2D","UpBlock2D"]`, "attention at level 1 going up is false"},
		"scale shift":       {"resnet_time_scale_shift", `"ada_group"`, `resnet_time_scale_shift is "ada_group", want default or scale_shift`},
		"resnet sampling":   {"downsample_type", `"resnet"`, "downsample_type"},
		"classes":           {"num_class_embeds", `-1`, "num_class_embeds is -1, want null or a positive number"},
		"class embedding":   {"class_embed_type", `"timestep"`, "class_embed_type"},
		"centred":           {"center_input_sample", `true`, "center_input_sample is true"},
		"scale factor":      {"mid_block_scale_factor", `1.4142`, "mid_block_scale_factor is 1.4142"},
		"mid block":         {"mid_block_type", `"UNetMidBlock2DCrossAttn"`, "mid_block_type"},
		"attention groups":  {"attn_norm_num_groups", `8`, "attn_norm_num_groups is 8, want 32"},
		"no attention norm": {"resnet_time_scale_shift", `"scale_shift"`, "attn_norm_num_groups is null, want 32: the attention in the middle has a norm here"},
		"head of zero":      {"attention_head_dim", `0`, "attention_head_dim is 0"},
		"oblong":            {"sample_size", `[32, 64]`, "sample_size is 32x64"},
		"no size":           {"sample_size", `null`, "sample_size is absent or null"},
		"null":              {"norm_eps", `null`, "norm_eps is null"},
		"wrong type":        {"norm_eps", `"small"`, "norm_eps"},
		"unknown and on":    {"attention_legacy_order", `true`, `unknown field "attention_legacy_order" = true`},
		"size does not fit": {"sample_size", `31`, "sample size 31 is not a multiple of 8"},
	} {
		t.Run(name, func(t *testing.T) {
			var fields map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(googleCIFAR10), &fields))
			fields[c.field] = json.RawMessage(c.value)
			raw, err := json.Marshal(fields)
			require.NoError(t, err)
			_, err = unet.ConfigFromDiffusers(raw)
			require.ErrorContains(t, err, c.want)
			if c.want[:6] == "sample" && c.value == "31" {
				require.ErrorIs(t, err, unet.ErrConfig)
			} else {
				require.ErrorIs(t, err, unet.ErrUnsupported)
			}
		})
	}
	for _, raw := range []string{"", "[]", "null", `{"sample_size": 32} x`} {
		_, err := unet.ConfigFromDiffusers([]byte(raw))
		require.ErrorIs(t, err, unet.ErrUnsupported, raw)
	}
	// Off is harmless, whatever it is.
	off := strings.Replace(googleCIFAR10, `"act_fn"`, `"new_feature": null, "Add_Attention": false, "act_fn"`, 1)
	c, err := unet.ConfigFromDiffusers([]byte(off))
	require.NoError(t, err)
	require.False(t, c.NoMidAttention)
}

func TestDiffusersRoundTrip(t *testing.T) {
	noMid := oddConfig()
	noMid.NoMidAttention, noMid.AttentionLevels = true, nil
	for _, c := range []unet.Config{unet.CIFAR10(), unet.Digits(), oddConfig(), noMid, scaleShiftConfig()} {
		raw, err := c.ToDiffusers()
		require.NoError(t, err)
		got, err := unet.ConfigFromDiffusers(raw)
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	_, err := unet.Config{}.ToDiffusers()
	require.ErrorIs(t, err, unet.ErrConfig)
}

// Every argument of the constructor is written, null or not, because its defaults
// differ from version to version.
func TestToDiffusersWritesEveryField(t *testing.T) {
	raw, err := unet.CIFAR10().ToDiffusers()
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(raw, &got))
	delete(got, "_diffusers_version")
	require.Equal(t, map[string]any{
		"_class_name": "UNet2DModel", "act_fn": "silu", "add_attention": true, "attention_head_dim": nil,
		"attn_norm_num_groups": nil, "block_out_channels": []any{128.0, 256.0, 256.0, 256.0}, "center_input_sample": false,
		"class_embed_type": nil, "down_block_types": []any{"DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"},
		"downsample_padding": 1.0, "downsample_type": "conv", "dropout": 0.1, "flip_sin_to_cos": false, "freq_shift": 0.0,
		"in_channels": 3.0, "layers_per_block": 2.0, "mid_block_scale_factor": 1.0, "mid_block_type": "UNetMidBlock2D",
		"norm_eps": 1e-5, "norm_num_groups": 32.0, "num_class_embeds": nil, "num_train_timesteps": nil, "out_channels": 3.0,
		"resnet_time_scale_shift": "default", "sample_size": 32.0, "time_embedding_type": "positional",
		"up_block_types": []any{"UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"}, "upsample_type": "conv",
	}, got)
}

func FuzzConfigFromDiffusers(f *testing.F) {
	f.Add([]byte(googleCIFAR10))
	f.Add([]byte(`{"sample_size": [64, 64]}`))
	f.Add([]byte(`{"sample_size": 8, "block_out_channels": [1e3], "down_block_types": [null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := unet.ConfigFromDiffusers(raw)
		if err != nil {
			return
		}
		require.NoError(t, c.Validate())
		require.False(t, math.IsNaN(c.NormEps))
		again, err := c.ToDiffusers()
		require.NoError(t, err)
		back, err := unet.ConfigFromDiffusers(again)
		require.NoError(t, err)
		require.Equal(t, c, back)
	})
}
