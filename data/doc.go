// Package data is the training set: image collections with random access, the
// order in which a run visits them, and the loader that turns positions of that
// order into batches.
//
// Its one idea: what a batch contains is a function of (seed, draw). A draw is
// a position in the run's whole sequence of samples, step * global batch +
// position in the batch. Sampler maps it to an epoch and an index by arithmetic
// alone (a keyed permutation), and the flip of a sample is keyed by its draw
// too, so a run has no cursor, no shuffled list and no generator to save: any
// worker can load any part of any step.
//
// Data sets, by name: digits (embedded, 8x8 grayscale), cifar10 (the files of
// either version), records (any files in CIFAR-10's record format), folder (image
// files), npz (an array of NumPy's, of any number of channels). Images are [H, W, C] float32 in [-1, 1].
//
// An image folder is looked at once, by Scan; the Index that it makes is the list
// of images, the same for all workers. Split keeps a part from training, by
// arithmetic. Propose makes a recipe after what is there.
//
// The package does not download (see data/fetch), does not batch over workers, and
// has no random augmentation but the horizontal flip.
package data
