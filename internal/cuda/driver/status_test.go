//go:build cuda

package driver_test

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"github.com/agrdist/agrdist/internal/cuda/cudatest"
	"github.com/agrdist/agrdist/internal/cuda/driver"
)

// probe makes the test binary print the driver's status and end: the driver is looked
// for once in a process.
const probe = "AGRDIST_TEST_PROBE"

type report struct {
	Before, After string // what cu says before Init and after it
	Info          driver.Info
	Links         [][]driver.Link
	Error         string
}

func TestMain(m *testing.M) {
	if os.Getenv(probe) != "" {
		r := status()
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(cudatest.Main(m))
}

func status() (r report) {
	_, err := cu.NumDevices()
	r.Before = fmt.Sprint(err)
	defer func() {
		_, err := cu.NumDevices()
		r.After = fmt.Sprint(err)
	}()
	if r.Info, err = driver.Status(); err == nil {
		r.Links, err = driver.Links(r.Info.Devices)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// statusIn returns the status in a process of its own.
func statusIn(t *testing.T, env ...string) report {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := cudatest.Command(t.Context(), self)
	cmd.Env = append(append(os.Environ(), probe+"=1"), env...)
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	var r report
	require.NoError(t, json.Unmarshal(out, &r))
	return r
}

func skipReal(t *testing.T) {
	t.Helper()
	if cudatest.Real() {
		t.Skip("about a driver that is not this machine's")
	}
}

func TestStatusWithoutDriver(t *testing.T) {
	dir := t.TempDir()
	missing, text := filepath.Join(dir, "libcuda.so.1"), filepath.Join(dir, "text.so")
	require.NoError(t, os.WriteFile(text, []byte("no library"), 0o600))
	for path, want := range map[string]string{
		missing: "driver: no CUDA driver: dl: not found: " + missing +
			" (from AGRDIST_LIBCUDA): install NVIDIA's driver, or start the container with its GPUs",
		text:                          "driver: no CUDA driver: dl: cannot be loaded: " + text + ": file too short (from AGRDIST_LIBCUDA)",
		os.Getenv("AGRDIST_LIBNVRTC"): "driver: no CUDA driver: dl: no such function: cuInit in " + os.Getenv("AGRDIST_LIBNVRTC"),
	} {
		if path == "" {
			continue // on a GPU
		}
		r := statusIn(t, driver.LibraryVariable+"="+path)
		require.Equal(t, want, r.Error)
		require.Equal(t, driver.Info{}, r.Info)
		require.Equal(t, "NotInitialized", r.Before)
		require.Equal(t, "UnknownErrorCode:34", r.After, "CUDA_ERROR_STUB_LIBRARY, which cu does not know")
	}
}

func TestStatusOfABrokenDriver(t *testing.T) {
	skipReal(t)
	path := os.Getenv(driver.LibraryVariable)
	for _, tt := range []struct{ env, want string }{
		{"AGRDIST_FAKE_CUINIT=100", "driver: no GPU: none in this machine, or CUDA_VISIBLE_DEVICES hides them, or the container was started without GPUs"},
		{"CUDA_VISIBLE_DEVICES=-1", "driver: no GPU: none in this machine, or CUDA_VISIBLE_DEVICES hides them, or the container was started without GPUs"},
		{"CUDA_VISIBLE_DEVICES=", "driver: no GPU: none in this machine, or CUDA_VISIBLE_DEVICES hides them, or the container was started without GPUs"},
		{"CUDA_VISIBLE_DEVICES=NoDevFiles", "driver: no GPU: none in this machine, or CUDA_VISIBLE_DEVICES hides them, or the container was started without GPUs"},
		{"AGRDIST_FAKE_CUINIT=803", "driver: the CUDA driver does not work: cuInit in " + path + ": driver: cuInit: system has unsupported display driver / cuda driver combination (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH); the library and the kernel module are of different versions: load the new module or reboot"},
		{"AGRDIST_FAKE_CUINIT=999", "driver: the CUDA driver does not work: cuInit in " + path + ": driver: cuInit: unknown error (CUDA_ERROR_UNKNOWN); the kernel module is not loaded or its devices are missing: see that nvidia-smi works (in a container: that it was started with its GPUs)"},
		{"AGRDIST_FAKE_CUINIT=12345", "driver: the CUDA driver does not work: cuInit in " + path + ": driver: cuInit: CUDA error 12345"},
		{"AGRDIST_FAKE_DRIVER=11020", "driver: the CUDA driver does not work: it supports CUDA 11.2, at least 11.4 is needed: install a newer one"},
	} {
		r := statusIn(t, tt.env)
		require.Equal(t, tt.want, r.Error, tt.env)
		require.Equal(t, path, r.Info.Library)
		require.Empty(t, r.Info.Devices)
	}
}

func TestStatusOfSeveralDevices(t *testing.T) {
	skipReal(t)
	r := statusIn(t, "AGRDIST_FAKE_GPUS=4", "AGRDIST_FAKE_CC=8.0", "CUDA_VISIBLE_DEVICES=2,0,7,1")
	require.Empty(t, r.Error)
	require.Equal(t, "NotInitialized", r.Before)
	require.Equal(t, "<nil>", r.After)
	require.Equal(t, "12.6", r.Info.Version.String())
	require.Len(t, r.Info.Devices, 2, "the list ends at a device that is none")
	d := r.Info.Devices[0]
	require.Equal(t, driver.Device{
		Ordinal: 0, Name: "Double 2", UUID: "GPU-d0d0d0d0-d0d0-d0d0-d0d0-d0d0d0d0d002", PCI: "0000:03:00.0",
		Memory: 4 << 30, Major: 8, Minor: 0, Processors: 4, SharedOptIn: 227 << 10, MemoryPools: true,
	}, d)
	require.Equal(t, "sm_80", d.Arch())
	require.Equal(t, "Double 0", r.Info.Devices[1].Name)
	link := driver.Link{Access: true, Atomics: true}
	require.Equal(t, [][]driver.Link{{{}, link}, {link, {}}}, r.Links)
}

// Devices are named by number or by UUID.
func TestVisibleDevices(t *testing.T) {
	skipReal(t)
	const uuid = "GPU-d0d0d0d0-d0d0-d0d0-d0d0-d0d0d0d0d00"
	for visible, want := range map[string][]string{
		"0":                          {"Double 0"},
		"1,0":                        {"Double 1", "Double 0"},
		uuid + "2":                   {"Double 2"},
		uuid + "2," + uuid + "1":     {"Double 2", "Double 1"},
		"0,-1,1":                     {"Double 0"},
		uuid + "1,GPU-none,NoDevice": {"Double 1"},
	} {
		r := statusIn(t, "AGRDIST_FAKE_GPUS=3", "CUDA_VISIBLE_DEVICES="+visible)
		require.Empty(t, r.Error, visible)
		var names []string
		for _, d := range r.Info.Devices {
			names = append(names, d.Name)
		}
		require.Equal(t, want, names, visible)
	}
}

// TestStatusOfThisMachine holds on the doubles and on a GPU.
func TestStatusOfThisMachine(t *testing.T) {
	r := status()
	require.Empty(t, r.Error)
	require.GreaterOrEqual(t, r.Info.Version, driver.Version(11040))
	require.FileExists(t, r.Info.Library)
	for _, d := range r.Info.Devices {
		require.NotEmpty(t, d.Name)
		require.Regexp(t, `^GPU-[0-9a-f-]{36}$`, d.UUID)
		require.Regexp(t, `^[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d$`, d.PCI)
		require.Greater(t, d.Memory, int64(1<<30))
	}
}

// TestBinaryNeedsNoDriver: the binary asks the loader for no library of NVIDIA's and
// for none of their functions.
func TestBinaryNeedsNoDriver(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	f, err := elf.Open(self)
	require.NoError(t, err)
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	for _, name := range libraries {
		require.NotRegexp(t, "cuda|nv|cudnn|cublas|nccl", name)
	}
	imported, err := f.ImportedSymbols()
	require.NoError(t, err)
	driverCall := regexp.MustCompile(`^(cu[A-Z]|nvrtc|cudnn|cublas|nccl)`)
	for _, s := range imported {
		require.NotRegexp(t, driverCall, s.Name)
	}
	exported, err := f.DynamicSymbols()
	require.NoError(t, err)
	for _, s := range exported {
		require.False(t, s.Section != elf.SHN_UNDEF && slices.Contains(driver.Symbols(), s.Name),
			"%s is exported: NVIDIA's libraries would bind to it", s.Name)
	}
}

// TestSymbols: the table has every function once, in the order of its file.
func TestSymbols(t *testing.T) {
	names := driver.Symbols()
	require.True(t, slices.IsSortedFunc(names, strings.Compare))
	require.Equal(t, names, slices.Compact(slices.Clone(names)))
	require.Contains(t, names, "cuLaunchKernel")
	require.Contains(t, names, "cuGraphInstantiateWithFlags")
}
