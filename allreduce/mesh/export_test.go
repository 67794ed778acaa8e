package mesh

// Parked returns how many connections wait for their generation.
func Parked(e *Endpoint) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.parked)
}
