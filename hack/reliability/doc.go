//go:build linux

// Command reliability breaks real runs and measures what it costs: it writes the table of
// docs/reliability.md.
//
//	go run ./hack/reliability [-rows REGEXP] [-times 3] [-write docs/reliability.md] AGRDIST
//
// Each row is one fault. The run's nodes are processes of this machine; where there are
// several, each has a network namespace of its own, and this program is the switch between
// them (so that it can cut a cable, one link, or lose packets). The figures come from the
// run's own records: from the nodes' logs when the coordinator reacted, from events.jsonl how
// long no step was committed and which steps were made twice. The digest of each run's last
// checkpoint is compared with that of one worker that nothing disturbs.
//
// It ends with 1 if a digest differs, a step was lost, or training stood still for far longer
// than the table promises. It is no benchmark: the model is tiny.
package main
