// Package eval computes the metrics by which generated images are judged, from
// features that somebody else extracted: Inception Score, Frechet distance (FID
// when the features are the FID Inception's), kernel distance (KID), precision and
// recall, density and coverage.
//
// Its one idea: statistics of rows. A row is one image's feature vector or one
// image's logits; everything is float64 and, where the definition allows it,
// streaming, so that 50,000 images take the memory of one batch. A result is a
// function of the rows in their order, not of how they were cut into batches.
//
// Definitions are those of torch-fidelity and pytorch-fid, whose values the tests
// compare with (testdata/golden.py). Each function names its paper.
//
// The package knows no network, no image and no data set: eval/inception and
// eval/classifier extract features.
package eval
