//go:build !unix

package rundir

func inode(string) string { return "" }
