// Package rundir knows how a run's directory is laid out, and opens what a run left:
//
//	RUN/config.yaml                   the resolved configuration
//	RUN/events.jsonl                  one JSON object a line
//	RUN/samples/step-N.png
//	RUN/checkpoints/step-N/           see package checkpoint
//	RUN/logs/NAME.log
//	RUN/debug/                        the last records of workers that went wrong
//	RUN/lock                          held by whoever writes to the run
//	RUN/coordinator.json              the coordinator's journal
//	RUN/coordinator-NODE.addr         where a node's workers find the coordinator
//	RUN/nodes/                        who each node is: its name, its ports, its locks
//	RUN/earlier-TIME/                 a run that was set aside
//
// Its one idea: a name of a file in a run stands here and nowhere else, and whoever
// reads weights (sampling, evaluation, comparison, resuming) opens them in one way:
//
//	src, err := rundir.OpenWeights(ctx, path, false) // a run, a checkpoint, or a diffusers directory
//	err = model.Load(src.Weights())
//
// Opening takes no lock and writes nothing: a run that is being trained can be read.
// The package does not interpret configurations (package setup makes parts out of
// them) and knows no network.
package rundir
