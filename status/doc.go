// Package status shows a run to people and to programs: what it does now, how it
// went, who is slow, over HTTP as JSON, as a web page, as server-sent events and as
// Prometheus metrics.
//
// Its one idea: it only looks. It stands on two sources, a function that returns a
// cluster.Status and the events.jsonl of a run's directory, and it derives the rest;
// training never waits for it. The two things a person can ask for (a checkpoint
// now, a stop) are functions that the caller gives it, behind a token.
//
//	s, err := status.Listen(status.Config{Bind: "127.0.0.1:0", Token: token, Runs: status.One(run)})
//	go s.Serve(ctx)
//	fmt.Println(s.URL())
//
// What it does not do: it keeps no history but the files', writes nothing into a
// run's directory, and knows no gRPC, no gossip and no trainer.
package status
