//go:build !linux

package worker

import "time"

// processTime is wall time where the system has no clock of a process.
func processTime() time.Duration { return time.Since(began) }

var began = time.Now()
