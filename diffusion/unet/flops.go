package unet

import (
	"fmt"
	"strings"

	"github.com/agrdist/agrdist/nn"
)

// ForwardFLOPs is the number of floating-point operations of one image's forward
// pass, a multiply-add counting as two: convolutions, linear layers and the two
// products of attention, as the field counts. Norms, activations, biases and
// sums, together below 1 %, are left out, and so is all that an implementation
// does besides (padding, computing again). It is 12.44e9 for CIFAR10.
func (c Config) ForwardFLOPs() (int64, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	params := &nn.Params{}
	build(params, c)
	var total int64
	for _, p := range params.List() {
		if p.Kind == nn.Vector {
			continue
		}
		size, err := c.outSize(p.Name)
		if err != nil {
			return 0, err
		}
		pixels := int64(size) * int64(size)
		total += 2 * int64(p.Len) * pixels // every weight meets every output pixel
		if strings.HasSuffix(p.Name, ".to_q.weight") {
			total += 2 * 2 * pixels * pixels * int64(p.Shape[0]) // q k' and the weighted sum of v
		}
	}
	return total, nil
}

// TrainingFLOPs is three times ForwardFLOPs: each product has two gradients of its
// own size. It is what one image of a training step must compute.
func (c Config) TrainingFLOPs() (int64, error) {
	forward, err := c.ForwardFLOPs()
	return 3 * forward, err
}

// outSize is the height and width of what a layer, known by the key of its
// weight, puts out; 1 for layers that see a vector per image.
func (c Config) outSize(key string) (int, error) {
	levels := len(c.BlockOutChannels)
	var i int
	switch {
	case strings.HasPrefix(key, "time_embedding."), strings.Contains(key, ".time_emb_proj."):
		return 1, nil
	case key == "conv_in.weight", key == "conv_out.weight":
		return c.SampleSize, nil
	case strings.HasPrefix(key, "mid_block."):
		return c.SampleSize >> (levels - 1), nil
	case scan(key, "down_blocks.%d.", &i):
		if strings.Contains(key, ".downsamplers.") {
			i++
		}
		return c.SampleSize >> i, nil
	case scan(key, "up_blocks.%d.", &i):
		if strings.Contains(key, ".upsamplers.") {
			i++
		}
		return c.SampleSize >> (levels - 1 - i), nil
	}
	return 0, fmt.Errorf("unet: no size known for %q", key)
}

func scan(s, format string, i *int) bool {
	n, err := fmt.Sscanf(s, format, i)
	return n == 1 && err == nil
}
