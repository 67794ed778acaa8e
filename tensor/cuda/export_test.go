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

// WithoutClass lists the kernels that are in no family.
func WithoutClass(b *Backend) (names []string) {
	for _, entries := range b.kernels.modules() {
		for _, e := range entries {
			if e.k.family.class == "" {
				names = append(names, e.name)
			}
		}
	}
	return names
}
