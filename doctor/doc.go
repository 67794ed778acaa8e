// Package doctor looks at a machine before a run does: processor, memory, limits,
// disk, what the transports need, GPUs and NVIDIA's libraries. It finds, in plain
// words, what is missing and how to fix it.
//
// Its one idea: a finding is tried, not read off. Loopback is a connection that was
// made, shared memory a page that another descriptor opened.
//
// It changes nothing and starts nothing that stays. What a configuration asks for
// is package config's and setup's to check.
package doctor
