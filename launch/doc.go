// Package launch starts a run on this node and says how it ended: what agrdist run
// does apart from flags and printing.
//
//	cfg, err := setup.Load(config.Source{File: "recipe.yaml"})
//	out, err := launch.Run(ctx, launch.Options{Config: cfg})
//	if err == nil && out.Ending == launch.Finished { ... out.Digest ... }
//
// Its one idea: a run is a function call. Several may run at once in one process,
// each in a directory of its own; nothing is shared but the program file that the
// workers are started from. The process need not be agrdist: Options.Worker says how
// a worker is started.
//
// A run directory is prepared before any process is started (lock, what to resume,
// whether the data is there), so that what cannot work is refused early.
//
// The package prints nothing: people are told through Options.Notice and Watch.
package launch
