package unet_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/agrdist/agrdist/checkpoint/safetensors"
	"github.com/agrdist/agrdist/diffusion"
	"github.com/agrdist/agrdist/diffusion/unet"
	"github.com/agrdist/agrdist/nn"
	"github.com/agrdist/agrdist/tensor/cpu"
)

// loadTiny reads the weights of a diffusers UNet2DModel into a model.
func loadTiny(be *cpu.Backend) (*unet.Model, error) {
	f, err := safetensors.ReadFile("testdata/unet-tiny-weights.safetensors")
	if err != nil {
		return nil, err
	}
	var weights []nn.Tensor
	for _, name := range f.Names() {
		data, shape, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		weights = append(weights, nn.Tensor{Name: name, Shape: shape, Data: data})
	}
	m, err := unet.New(be, unet.Digits()) // or unet.ConfigFromDiffusers(text of unet/config.json)
	if err != nil {
		return nil, err
	}
	return m, m.Load(weights)
}

// reference reads one tensor of the reference file.
func reference(name string) []float32 {
	f, err := safetensors.ReadFile("testdata/unet-tiny-reference.safetensors")
	if err != nil {
		slog.New(slog.DiscardHandler).Error("example", "err", err)
		return nil
	}
	data, _, err := f.Float32(name)
	if err != nil {
		return nil
	}
	return data
}

// Load weights from a safetensors file in diffusers' layout and predict.
func ExampleModel_Predict() {
	be := cpu.New(cpu.Config{Threads: 2})
	defer be.Close()
	m, err := loadTiny(be)
	if err != nil {
		fmt.Println(err)
		return
	}
	x := reference("x_t") // [4, 1, 8, 8]: with one channel NCHW and NHWC are the same
	out := make([]float32, len(x))
	if err := m.Predict(out, x, []int64{10, 300, 600, 990}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Params().Count(), "parameters,", len(out), "values")
	// Output: 701345 parameters, 256 values
}

// The mean squared error and the gradient of every parameter, by its diffusers
// key and in PyTorch's layout.
func ExampleModel_LossAndGradients() {
	be := cpu.New(cpu.Config{Threads: 2})
	defer be.Close()
	m, err := loadTiny(be)
	if err != nil {
		fmt.Println(err)
		return
	}
	loss, grads, err := m.LossAndGradients(unet.HostBatch{
		XT: reference("x_t"), Target: reference("eps"), Layout: unet.NCHW, T: []int64{10, 300, 600, 990},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	names := slices.Sorted(maps.Keys(grads))
	fmt.Println(loss > 0, len(names), names[0], len(grads["conv_in.weight"]))
	// Output: true 144 conv_in.bias 288
}

// Ten DDIM steps from a given x_T, as diffusers' DDIMScheduler takes them.
func ExampleModel_ddim() {
	be := cpu.New(cpu.Config{Threads: 2})
	defer be.Close()
	m, err := loadTiny(be)
	if err != nil {
		fmt.Println(err)
		return
	}
	schedule, err := diffusion.NewSchedule(diffusion.Linear, 1000)
	if err != nil {
		fmt.Println(err)
		return
	}
	c := diffusion.DefaultSamplerConfig() // DDIM, eta 0, leading, x0 clipped
	c.Steps = 10
	sampler, err := diffusion.NewSampler(schedule, c)
	if err != nil {
		fmt.Println(err)
		return
	}
	x := reference("x_T") // overwritten by x_0
	ids := []uint64{0, 1} // which images these are: with eta 0 they do not matter
	if err := sampler.Sample(context.Background(), m, x, ids, 0, nil); err != nil {
		fmt.Println(err)
		return
	}
	want := reference("ddim.leading10")
	worst := 0.0
	for i := range x {
		worst = max(worst, float64(max(x[i]-want[i], want[i]-x[i])))
	}
	fmt.Println("within 1e-4 of PyTorch:", worst < 1e-4)
	// Output: within 1e-4 of PyTorch: true
}
