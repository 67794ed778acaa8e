// Package grid draws a batch of images as one PNG: rows of images with a gap
// between neighbours, each enlarged by whole pixels, so that a person can look
// at what a model of small images generates.
//
// Its one idea: the bytes are a function of the images and the options, so a
// grid can be compared by its digest like everything else of a run.
//
// Two channels are gray and alpha, four RGBA; an image of more than four is drawn as so
// many gray ones beside one another, in the channels' order.
//
// It does not label, does not scale by fractions, and knows no colour space but
// the bytes' own.
package grid
