// Package worker is one worker process: it builds the parts of a run from the
// run's directory, registers with the coordinator, and trains until the run ends.
//
// It adapts the parts to the ports of package trainer: checkpoints, the sample
// grid, events.jsonl. It decides nothing about membership, and it starts no
// process.
package worker
