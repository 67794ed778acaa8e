// Package unet is the denoising network of DDPM (Ho et al., arXiv 2006.11239,
// appendix B): a UNet of residual blocks with attention at chosen resolutions,
// conditioned on the timestep.
//
// The one idea: it is diffusers' UNet2DModel, switch for switch and key for key,
// so that any model this package trains can be opened there, and the other way
// round. The published variants (the authors' CIFAR-10 model, google/ddpm-*,
// pytorch-ddpm's) differ only in Config.
//
//	conv_in - down_blocks - mid_block - up_blocks - conv_norm_out, SiLU, conv_out
//	             |     '------ skips ------^
//	           down_blocks.i: [resnets.j (attentions.j)] x LayersPerBlock, downsampler
//	           up_blocks.i:   [concat skip, resnets.j (attentions.j)] x (LayersPerBlock+1), upsampler
//
// A Model runs on one tensor.Backend and is used by one goroutine. It records each
// batch size once (package autograd) and keeps the programs of the last few.
// Predictions and gradients are functions of the parameters, the batch and the
// seed alone; a sample's prediction does not depend on the batch around it.
//
// The package knows no noise schedule, no optimizer and no files: see package
// diffusion, optim and checkpoint.
package unet
