// Package doctor looks at a machine before a run does: processor, memory, what
// the transports need, GPUs and NVIDIA's libraries. It finds, in plain words, what
// is missing and how to mend it.
//
// It changes nothing and starts nothing that stays. What a configuration asks for
// is package config's and setup's to check.
package doctor
