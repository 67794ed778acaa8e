// Package simulate attacks the control plane: the machines of the coordinator (package
// cluster) and of every node (package cluster/node) run as they are, in a world of made-up
// processes, links, disks and clocks in which everything that may fail does.
//
// Its one idea: a schedule is a function of a seed. A world has no goroutine, no real
// clock and no random source but the seed, so a schedule that breaks a rule breaks it
// again when it is run again, and can be shrunk to the few faults that matter.
//
// What must hold, whatever fails (check_test.go):
//
//   - No two generations commit one step, unless all who held the newest one are dead:
//     then what came after the newest that is left, or after the checkpoint, is repeated.
//   - So the newest committed step is not lost while one process that holds it lives.
//   - Every step is applied exactly once to a state, so that every sample index is used
//     exactly once an epoch.
//   - Who says that a checkpoint was saved is right.
//   - When the faults end and the network has healed, training continues within a bounded
//     time, with every worker that fits.
//
// The package is made of tests: `make simulate` runs many schedules, `go test` a few. The
// planted faults of TestPlantedFaults show that the checks find what they are there for.
//
// What it does not do: it moves no parameters and opens no connection. The data plane is
// modelled as what the control plane relies on: a generation commits a step when all its
// members are in it and can reach one another.
package simulate
