//go:build !linux

package worker

func setProcessName(string) {}
