// Package flight is a flight recorder: the last things that a worker process did, kept
// where they outlive it.
//
// Its one idea: the recorder needs no cooperation when it matters. The ring of records
// lies in an anonymous file that the agent made, and that both processes map. A worker
// writes a record with a few stores and no allocation; its agent reads the ring of a
// worker that is stopped, killed or hung in a system call just as well as that of a
// healthy one.
//
//	agent:   ring, err := flight.Create()        // file goes to the worker, as its fd
//	worker:  rec := flight.Open(fd)              // nil where there is none: records nothing
//	         rec.Add(flight.Record{Kind: flight.Begin, ...})
//	agent:   records := ring.Records()           // at any time
//	         flight.WriteDump(dir, flight.Dump{...})
//	anybody: dumps, err := flight.ReadDumps(dir)
//	         flight.Explain(dumps)               // who stopped first, who waited for whom
//
// What it does not do: it is no log of the run (events.jsonl is) and no profile. It
// records where a rank is, not what it computed.
package flight
