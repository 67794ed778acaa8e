// Package classifier is a small network of our own that stands in for Inception
// where Inception says nothing: 8x8 digits, emoji, or any labelled set without the
// Inception weights at hand.
//
// Its one idea: it is trained once, deterministically, on the labelled set itself,
// so that a score means the same everywhere. The digits' weights are part of the
// program; another set's are trained on first use and kept in the user's cache
// directory under the digest of everything they are a function of.
//
// Scores in its features are named after the data set (digits-fd, digits-is): they
// compare models on that set and must not be compared with FID or Inception Scores
// of other papers. A result names the digest of the classifier's weights.
//
// It does not augment but by noise, is no state-of-the-art classifier, and runs in
// f32 on the processor only.
package classifier
