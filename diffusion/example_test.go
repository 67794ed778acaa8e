package diffusion_test

import (
	"context"
	"fmt"

	"github.com/agrdist/agrdist/diffusion"
)

// constant is a network that has learned a single image: it predicts x0.
type constant []float32

func (c constant) Predict(dst, _ []float32, t []int64) error {
	for i := range t {
		copy(dst[i*len(c):(i+1)*len(c)], c)
	}
	return nil
}

func ExampleSampler() {
	schedule, err := diffusion.NewSchedule(diffusion.Cosine, 1000)
	if err != nil {
		panic(err)
	}
	config := diffusion.DefaultSamplerConfig()
	config.Prediction = diffusion.X0
	config.Steps = 10
	sampler, err := diffusion.NewSampler(schedule, config)
	if err != nil {
		panic(err)
	}

	ids := []uint64{0, 1} // two images
	x := make([]float32, 2*3)
	diffusion.InitialNoise(x, ids, 42)
	err = sampler.Sample(context.Background(), constant{-1, 0, 1}, x, ids, 42, nil)
	fmt.Printf("%.2f %v\n", x, err)
	fmt.Println(sampler.Timesteps())
	// Output:
	// [-1.00 0.00 1.00 -1.00 0.00 1.00] <nil>
	// [900 800 700 600 500 400 300 200 100 0]
}

func ExampleSchedule_QSampleCoefficients() {
	schedule, err := diffusion.NewSchedule(diffusion.Linear, 1000)
	if err != nil {
		panic(err)
	}
	for _, t := range []int{0, 500, 999} {
		signal, noise := schedule.QSampleCoefficients(t)
		a, b := diffusion.V.TargetCoefficients(schedule, t)
		fmt.Printf("t %3d: x_t = %.3f x0 + %.3f eps, v = %.3f x0 + %.3f eps\n", t, signal, noise, a, b)
	}
	// Output:
	// t   0: x_t = 1.000 x0 + 0.010 eps, v = -0.010 x0 + 1.000 eps
	// t 500: x_t = 0.279 x0 + 0.960 eps, v = -0.960 x0 + 0.279 eps
	// t 999: x_t = 0.006 x0 + 1.000 eps, v = -1.000 x0 + 0.006 eps
}

func ExampleEncodeSchedulerConfig() {
	schedule, err := diffusion.NewSchedule(diffusion.Linear, 1000)
	if err != nil {
		panic(err)
	}
	text, err := diffusion.EncodeSchedulerConfig(schedule, diffusion.DefaultSamplerConfig())
	if err != nil {
		panic(err)
	}
	fmt.Print(string(text))
	// Output:
	// {
	//   "_class_name": "DDIMScheduler",
	//   "_diffusers_version": "0.27.2",
	//   "beta_end": 0.02,
	//   "beta_schedule": "linear",
	//   "beta_start": 0.0001,
	//   "clip_sample": true,
	//   "clip_sample_range": 1,
	//   "num_train_timesteps": 1000,
	//   "prediction_type": "epsilon",
	//   "rescale_betas_zero_snr": false,
	//   "set_alpha_to_one": true,
	//   "steps_offset": 0,
	//   "thresholding": false,
	//   "timestep_spacing": "leading",
	//   "trained_betas": null
	// }
}
