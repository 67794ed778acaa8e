//go:build cuda

package doctor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/agrdist/agrdist/allreduce/nccl"
	"github.com/agrdist/agrdist/internal/cuda/cublaslt"
	"github.com/agrdist/agrdist/internal/cuda/cudnn"
	"github.com/agrdist/agrdist/internal/cuda/dl"
	"github.com/agrdist/agrdist/internal/cuda/driver"
	"github.com/agrdist/agrdist/internal/cuda/nvrtc"
	"github.com/agrdist/agrdist/internal/cuda/selftest"
)

// gpus examines the driver, its devices and NVIDIA's libraries, each of which does a
// small piece of work on every GPU. What is missing or does not work is a note: without
// it this machine trains on the CPU.
func gpus() []Finding {
	info, err := driver.Status()
	all := []Finding{driverFinding(info, err)}
	var tried tries
	for i, d := range info.Devices {
		f := Finding{
			Status: OK, Name: fmt.Sprintf("GPU %d", i),
			Text: fmt.Sprintf("%s, %s, %s, %d multiprocessors, %s, at %s",
				d.Name, gib(d.Memory), d.Arch(), d.Processors, d.UUID, d.PCI),
		}
		r := selftest.Run(i)
		if r.Device != nil {
			f.Status, f.Text = Note, f.Text+": "+r.Device.Error()
			f.Fix = "another program may hold it (nvidia-smi shows which), or the driver does not reach it"
		}
		tried.add(i, r)
		all = append(all, f)
	}
	if len(info.Devices) > 1 {
		all = append(all, links(info.Devices))
	}
	if len(info.Devices) == 0 {
		_, err := selftest.Compile("sm_90")
		tried.nvrtc = append(tried.nvrtc, err)
	}
	for _, l := range libraries(&tried) {
		all = append(all, l.examine())
	}
	return all
}

// tries are the results of work with each library, by device.
type tries struct{ nvrtc, blas, dnn []error }

func (t *tries) add(device int, r selftest.Result) {
	if r.Device != nil {
		return
	}
	on := func(err error) error {
		if err != nil {
			return fmt.Errorf("GPU %d: %w", device, err)
		}
		return nil
	}
	t.nvrtc, t.blas, t.dnn = append(t.nvrtc, on(r.NVRTC)), append(t.blas, on(r.BLAS)), append(t.dnn, on(r.DNN))
}

func driverFinding(info driver.Info, err error) Finding {
	f := Finding{Status: OK, Name: "CUDA driver"}
	if err != nil {
		f.Status, f.Text = Note, err.Error()
		if path := os.Getenv(driver.LibraryVariable); path != "" && errors.Is(err, driver.ErrNoLibrary) {
			f.Fix = fmt.Sprintf("%s names %s: unset it, or correct the path", driver.LibraryVariable, path)
			return f
		}
		if v, ok := os.LookupEnv("CUDA_VISIBLE_DEVICES"); ok {
			f.Fix = fmt.Sprintf("CUDA_VISIBLE_DEVICES is %q: it hides the GPUs that it does not name", v)
		}
		return f
	}
	f.Text = fmt.Sprintf("%s, for CUDA %v and older", info.Library, info.Version)
	return f
}

// links shows how the GPUs reach each other: NV over NVLink, P2P over PCIe, host
// through host memory.
func links(devs []driver.Device) Finding {
	f := Finding{Status: OK, Name: "GPU links"}
	table, err := driver.Links(devs)
	if err != nil {
		return Finding{Status: Note, Name: f.Name, Text: err.Error()}
	}
	var pairs []string
	for i := range table {
		for j := i + 1; j < len(table); j++ {
			kind := "host"
			switch l := table[i][j]; {
			case l.Access && l.Atomics:
				kind = "NV"
			case l.Access:
				kind = "P2P"
			}
			pairs = append(pairs, fmt.Sprintf("%d-%d %s", i, j, kind))
		}
	}
	f.Text = strings.Join(pairs, ", ")
	return f
}

// library is one of NVIDIA's that is loaded at run time.
type library struct {
	name, override, without string

	find func() (path, version string, err error)
	work string  // what it was given to do
	done []error // how that went, once for each time; none: it was not tried
}

func libraries(t *tries) []library {
	return []library{
		{"NVRTC", nvrtc.LibraryVariable, "without it no GPU trains: it compiles the kernels", findNVRTC, "compiled a kernel", t.nvrtc},
		{"cuBLASLt", cublaslt.EnvLibrary, "without it no GPU trains: matrix multiplications are its work", func() (string, string, error) {
			l, err := cublaslt.Open()
			if err != nil {
				return "", "", err
			}
			return l.Path(), number(l.Version()), nil
		}, "multiplied two matrices", t.blas},
		{"cuDNN", cudnn.EnvLibrary, "without it no GPU trains: convolutions are its work", func() (string, string, error) {
			l, err := cudnn.Open()
			if err != nil {
				return "", "", err
			}
			return l.Path(), number(l.Version()), nil
		}, "computed a convolution", t.dnn},
		{"NCCL", nccl.EnvLibrary, "without it several GPUs train with gradients copied through the host", func() (string, string, error) {
			l, err := nccl.Open()
			if err != nil {
				return "", "", err
			}
			return l.Path(), l.Version(), nil
		}, "", nil},
	}
}

func findNVRTC() (string, string, error) {
	path, err := nvrtc.Path()
	if err != nil {
		return "", "", err
	}
	v, err := nvrtc.Version()
	return path, v, err
}

// number writes 92800 as 9.28.0, and 120604 as 12.6.4.
func number(v int) string { return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100) }

func (l library) examine() Finding {
	path, version, err := l.find()
	if err != nil {
		f := Finding{
			Status: Note, Name: l.name, Text: err.Error(),
			Fix: fmt.Sprintf("%s; install it, or name its directory in %s", l.without, dl.PathVariable),
		}
		if path := os.Getenv(l.override); path != "" {
			f.Fix = fmt.Sprintf("%s; %s names %s: unset it, or correct the path", l.without, l.override, path)
		}
		return f
	}
	f := Finding{Status: OK, Name: l.name, Text: fmt.Sprintf("%s, %s", version, path)}
	switch err := errors.Join(l.done...); {
	case err != nil:
		f.Status, f.Text = Note, f.Text+": "+strings.ReplaceAll(err.Error(), "\n", "; ")
		f.Fix = l.without + "; it was found and does not work: install it again, from the same release of CUDA as the other libraries"
	case len(l.done) > 0:
		f.Text += "; " + l.work
	case l.work != "":
		f.Text += "; not tried, for want of a GPU"
	}
	return f
}
