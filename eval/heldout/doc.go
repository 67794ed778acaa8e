// Package heldout measures a diffusion model's denoising loss on images that it was
// not trained on: the number that tells optimizers and learning rates apart long
// before samples do.
//
// Its one idea: the draws are fixed. Which timesteps and which noise an image is
// tried with is a function of the image's index alone, the same for every run, so
// that differences between runs are differences between models. The timesteps are
// stratified: each image is tried once in every one of K equal parts of [0, T), which
// takes the loss's dependence on t, by far its largest variation, out of the error.
//
// The loss is the training loss, the mean squared error of what the network predicts.
// The package knows no network and no data set beyond their ports.
package heldout
