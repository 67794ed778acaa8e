// Package judge evaluates a trained model: it generates images on this node's
// processors or GPU, takes their features, compares them with a reference and measures
// the held-out loss.
//
// Its one idea: it only connects. Parts of the model come from package setup, features
// from eval/classifier or eval/inception, the work and its resumption from eval/suite,
// the numbers from eval and eval/heldout; what a result means is in none of the
// connections, so it is the same on any number of workers.
//
// Images are rounded to 8 bits before their features are taken, as if they had been
// written to files: a stored set of images and the model that drew it score alike.
//
// It reads no command line and prints nothing.
package judge
