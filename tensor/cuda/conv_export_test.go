//go:build cuda

package cuda

// PatchesForTest sets the most bytes of patches at a time.
func (b *Backend) PatchesForTest(bytes int) { b.libraries.maxPatches = bytes }
