package unet

import (
	"fmt"
	"strings"

	"github.com/agrdist/agrdist/nn"
)

// Load fills the weights from tensors in PyTorch's layouts, named by their
// diffusers keys. Every parameter must be there, and nothing else. The names that
// older files give to attention (query, key, value, proj_attn) are accepted, as
// are 1x1 convolutions for linear layers. Nothing changes on an error, which
// names every tensor at fault (nn.ErrMissing, ErrUnknown, ErrTwice, ErrShape).
func (m *Model) Load(tensors []nn.Tensor) error {
	flat := make([]float32, m.params.FlatLen())
	if err := m.params.Flatten(flat, tensors, CurrentName); err != nil {
		return fmt.Errorf("unet: load: %w", err)
	}
	m.be.Upload(m.params.Values(), flat)
	return nil
}

var renames = strings.NewReplacer(
	".query.", ".to_q.", ".key.", ".to_k.", ".value.", ".to_v.", ".proj_attn.", ".to_out.0.",
)

// CurrentName maps an attention parameter's older diffusers key to the one in use;
// other names stay.
func CurrentName(key string) string {
	if !strings.Contains(key, ".attentions.") {
		return key
	}
	return renames.Replace(key)
}
