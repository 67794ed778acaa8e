// Package usage finds out what the operating system says of this process: how much
// memory it holds, and what keeps it from computing (a CPU limit, other programs on its
// CPUs, page faults, a hypervisor, a network that loses packets).
//
// Its one idea: a slow worker can name its reason. Every two seconds a goroutine reads a
// few files of /proc and /sys and keeps the rates since the last time; asking for them
// costs a load of a pointer.
//
// What it does not do: it judges nothing (package status does), and where the system
// does not tell a number, as outside Linux, that number is 0.
package usage
