//go:build cuda

package cuda

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
)

//go:embed kernels/*.cu
var sources embed.FS

// prelude is put in front of every other file.
const prelude = "prelude.cu"

// compileOptions hold for all kernels. Without contraction a kernel rounds
// where its source says, on every architecture; fmaf is called where one
// rounding is wanted.
var compileOptions = []string{"--std=c++17", "--fmad=false", "--device-as-default-execution-space", "--extra-device-vectorization"}

// source is the text of a module.
func source(module string) (string, error) {
	var text []byte
	for _, name := range []string{prelude, module + ".cu"} {
		part, err := sources.ReadFile("kernels/" + name)
		if err != nil {
			return "", fmt.Errorf("cuda: kernels: %w", err)
		}
		text = append(text, part...)
	}
	return string(text), nil
}

// loadImage loads machine code until Close.
func (b *Backend) loadImage(module string, image []byte) (cu.Module, error) {
	m, err := cu.LoadData(string(image))
	if err != nil {
		return cu.Module{}, fmt.Errorf("cuda: load kernels %s for %s: %w", module, b.arch, err)
	}
	b.closers = append(b.closers, m.Unload)
	return m, nil
}

// cacheDir is where compiled kernels are kept; empty means nowhere.
func cacheDir(configured string) string {
	if configured != "" {
		return configured
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "agrdist")
}

// compile returns the machine code of a module. A file of the cache is the
// SHA-256 of the code and the code; one that does not fit its sum is compiled
// again. A cache that cannot be written costs the next start some seconds.
func compile(dir, module, text, arch string) ([]byte, error) {
	key, err := cacheKey(module, text, arch)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "kernels", module+"-"+arch+"-"+key+".cubin")
	if dir != "" {
		if image, ok := readCached(path); ok {
			return image, nil
		}
	}
	image, log, err := nvrtc.Compile(text, module+".cu", arch, compileOptions...)
	if err != nil {
		return nil, fmt.Errorf("cuda: compile %s for %s: %w\n%s", module, arch, err, log)
	}
	if dir != "" {
		writeCached(path, image)
	}
	return image, nil
}

// cacheKey names all that the machine code depends on.
func cacheKey(module, text, arch string) (string, error) {
	version, err := nvrtc.Version()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", text, module, arch, compileOptions, version))
	return hex.EncodeToString(sum[:16]), nil
}

func readCached(path string) ([]byte, bool) {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) < sha256.Size {
		return nil, false
	}
	image := raw[sha256.Size:]
	sum := sha256.Sum256(image)
	return image, bytes.Equal(sum[:], raw[:sha256.Size])
}

func writeCached(path string, image []byte) {
	if os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return
	}
	sum := sha256.Sum256(image)
	_ = renameio.WriteFile(path, append(sum[:], image...), 0o644) // see compile
}
