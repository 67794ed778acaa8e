// Package compare carries out an experiment: a grid of runs over methods and seeds,
// evaluated at given steps, and one report with what the numbers do and do not say.
//
// Its one idea: differences are paired. Runs with one seed see the same images in the
// same order with the same noise, whatever their optimizer, because every draw is a
// function of (seed, which sample). The difference of two methods on one seed is free
// of most of the variation between seeds, so few seeds show small effects; the tests
// here are paired tests, and a method that is not tuned is not compared: every method
// gets a learning rate of its own from a sweep judged by the held-out loss.
//
//	Spec --Plan--> tuning runs --best--> runs --at steps--> evaluations --Report--> md, html, csv, svg
//
// Everything is resumable: a finished run or evaluation is found again, one that was
// interrupted continues, and the report is a pure function of what they left.
//
// The package starts no process and knows no agent: a Lab trains and judges for it.
package compare
