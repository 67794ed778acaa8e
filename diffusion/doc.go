// Package diffusion is the mathematics of denoising diffusion models: noise
// schedules, the forward process q(x_t | x_0), the three things a network may
// predict, and the DDPM and DDIM samplers.
//
// Its one idea: an image is a function of (model, seed, image id). The noise of
// image id at step k comes from package rng by (seed, k, id), so neither the
// batch an image is generated in nor the process that generates it changes a
// bit of it.
//
// Everything that depends on the timestep alone is computed in float64, before
// the first step; a step is then one linear form per element. Images are plain
// host slices, float32, values in [-1, 1], any layout: the package never looks
// at what a pixel's neighbours are.
//
// Notation, with t = 0 .. T-1 as in the papers' code (Ho et al., "Denoising
// Diffusion Probabilistic Models", arXiv 2006.11239; Song et al., "Denoising
// Diffusion Implicit Models", arXiv 2010.02502):
//
//	beta_t      variance added by step t                     Schedule.Betas
//	alpha_t     1 - beta_t                                   Schedule.Alphas
//	abar_t      alpha_0 alpha_1 .. alpha_t                   Schedule.AlphasCumprod
//	x_t         sqrt(abar_t) x_0 + sqrt(1-abar_t) eps        Schedule.QSample
//
// The package knows no network (Predictor is its port), no device, and does not
// train: the trainer takes its coefficients and works on tensors.
package diffusion
