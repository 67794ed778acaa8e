//go:build !linux

package parallel

type affinity struct{}

// allowed lists nothing: threads cannot be pinned here.
func allowed() ([]processor, error) { return nil, nil }

func lockTo(int) (thread int, before affinity, err error) { return 0, affinity{}, nil }

func unlock(map[int]affinity) error { return nil }
