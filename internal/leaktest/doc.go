// Package leaktest fails a package's tests when they leave something behind: goroutines,
// processes, open descriptors (files, sockets, memfds), entries in /dev/shm, temporary
// files. Its one idea: a test that ends well but leaves a worker running has failed, and
// the message says what was left.
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// Processes are found by a mark in their environment, which orphans keep; temporary files
// by a TMPDIR of the tests' own. It knows nothing of what the tests do, and looks once,
// when all have ended: which one it was, -run tells.
package leaktest
