//go:build cuda

package cuda

// FailForTest makes the next launch one of too many threads.
func (b *Backend) FailForTest() {
	b.launch(&b.kernels.digestSum, grid{1, 1}, 4096, 0, 0, 0)
}

// SetScoreBytes bounds the scores that attention keeps at one time.
func (b *Backend) SetScoreBytes(n int64) { b.scoreBytes = n }

// Compile is compile.
var Compile = compile

// Module is the source of a module and the names of its kernels.
type Module struct {
	Source  string
	Entries []string
}

// Modules returns all modules by name.
func Modules() (map[string]Module, error) {
	all := map[string]Module{}
	for name, entries := range (&kernels{}).modules() {
		text, err := source(name)
		if err != nil {
			return nil, err
		}
		m := Module{Source: text}
		for _, e := range entries {
			m.Entries = append(m.Entries, e.name)
		}
		all[name] = m
	}
	return all, nil
}
