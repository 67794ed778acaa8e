package pytorchddpm

import (
	"fmt"
	"slices"
)

// Shape is the part of a UNet that its names say.
type Shape struct {
	Levels    int
	Blocks    int   // residual blocks a level going down; one more going up
	Attention []int // levels with attention
}

// Name is a parameter's name in pytorch-ddpm and in diffusers.
type Name struct{ Theirs, Diffusers string }

// part is a module that has a weight and a bias.
func part(list []Name, theirs, diffusers string) []Name {
	for _, p := range []string{".weight", ".bias"} {
		list = append(list, Name{theirs + p, diffusers + p})
	}
	return list
}

// residual is a residual block, with the attention behind it.
func residual(list []Name, theirs, group string, n int, attention bool) []Name {
	to := fmt.Sprintf("%s.resnets.%d.", group, n)
	list = part(list, theirs+".block1.0", to+"norm1")
	list = part(list, theirs+".block1.2", to+"conv1")
	list = part(list, theirs+".temb_proj.1", to+"time_emb_proj")
	list = part(list, theirs+".block2.0", to+"norm2")
	list = part(list, theirs+".block2.3", to+"conv2")
	list = part(list, theirs+".shortcut", to+"conv_shortcut") // where the channels differ
	if attention {
		to = fmt.Sprintf("%s.attentions.%d.", group, n)
		list = part(list, theirs+".attn.group_norm", to+"group_norm")
		list = part(list, theirs+".attn.proj_q", to+"to_q")
		list = part(list, theirs+".attn.proj_k", to+"to_k")
		list = part(list, theirs+".attn.proj_v", to+"to_v")
		list = part(list, theirs+".attn.proj", to+"to_out.0")
	}
	return list
}

// Names lists every parameter that a UNet of that shape can have. Of the shortcuts it has
// those of the blocks whose input and output channels differ.
func (s Shape) Names() []Name {
	var list []Name
	list = part(list, "time_embedding.timembedding.1", "time_embedding.linear_1")
	list = part(list, "time_embedding.timembedding.3", "time_embedding.linear_2")
	list = part(list, "head", "conv_in")
	list = part(list, "tail.0", "conv_norm_out")
	list = part(list, "tail.2", "conv_out")
	at := 0
	for level := range s.Levels {
		group := fmt.Sprintf("down_blocks.%d", level)
		for n := range s.Blocks {
			list = residual(list, fmt.Sprintf("downblocks.%d", at), group, n, slices.Contains(s.Attention, level))
			at++
		}
		if level < s.Levels-1 {
			list = part(list, fmt.Sprintf("downblocks.%d.main", at), group+".downsamplers.0.conv")
			at++
		}
	}
	list = residual(list, "middleblocks.0", "mid_block", 0, true)
	list = residual(list, "middleblocks.1", "mid_block", 1, false)
	at = 0
	for up := range s.Levels {
		level, group := s.Levels-1-up, fmt.Sprintf("up_blocks.%d", up)
		for n := range s.Blocks + 1 {
			list = residual(list, fmt.Sprintf("upblocks.%d", at), group, n, slices.Contains(s.Attention, level))
			at++
		}
		if level > 0 {
			list = part(list, fmt.Sprintf("upblocks.%d.main", at), group+".upsamplers.0.conv")
			at++
		}
	}
	return list
}
