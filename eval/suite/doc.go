// Package suite carries out an evaluation: it collects the features of n images from
// several workers, computes every metric from them, and keeps the result with
// everything that defines it.
//
// Its one idea: an evaluation is a pure function of its Definition (weights, sampler,
// seed, n, feature network, reference). Its digest names the work file, so that an
// evaluation that was killed continues where it stopped, and the record, so that one
// that is done is not done again. Only the time differs.
//
//	workers --blocks--> work file --all n--> metrics --record--> eval.jsonl
//
// The package generates no image and knows no network: a Worker turns a range of
// image numbers into features.
package suite
