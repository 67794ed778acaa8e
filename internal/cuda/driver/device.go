//go:build cuda

package driver

/*
#include "calls.h"
*/
import "C"

import (
	"fmt"

	"gorgonia.org/cu"
)

// Device describes one GPU as CUDA_VISIBLE_DEVICES lets it be seen.
type Device struct {
	Ordinal      cu.Device
	Name         string
	UUID         string // GPU-..., as nvidia-smi -L prints it
	PCI          string // domain:bus:device.function
	Memory       int64  // bytes
	Major, Minor int    // compute capability
	Processors   int    // streaming multiprocessors
	SharedOptIn  int    // bytes of shared memory that a block may ask for
	MemoryPools  bool   // MemAllocAsync works
}

// Arch is the architecture's name for compilers: sm_90.
func (d Device) Arch() string { return fmt.Sprintf("sm_%d%d", d.Major, d.Minor) }

// Attributes of CUdevice_attribute that cu has no name for.
const (
	attrSharedOptIn = cu.DeviceAttribute(97)
	attrMemoryPools = cu.DeviceAttribute(115)
)

func devices() ([]Device, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("driver: counting the GPUs: %w", err)
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoDevice, noDeviceHint)
	}
	list := make([]Device, n)
	for i := range list {
		if list[i], err = Describe(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Describe returns what the driver says about a device. Init comes first.
func Describe(ordinal int) (Device, error) {
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return Device{}, fmt.Errorf("driver: GPU %d: %w", ordinal, err)
	}
	d := Device{Ordinal: dev}
	if err := d.fill(); err != nil {
		return Device{}, fmt.Errorf("driver: GPU %d: %w", ordinal, err)
	}
	return d, nil
}

func (d *Device) fill() (err error) {
	if d.Name, err = d.Ordinal.Name(); err != nil {
		return err
	}
	id, err := d.Ordinal.UUID()
	if err != nil {
		return err
	}
	d.UUID = "GPU-" + id.String()
	var pci [32]C.char
	if err := check("cuDeviceGetPCIBusId", C.cuDeviceGetPCIBusId(&pci[0], C.int(len(pci)), C.int(d.Ordinal))); err != nil {
		return err
	}
	d.PCI = C.GoString(&pci[0])
	if d.Memory, err = d.Ordinal.TotalMem(); err != nil {
		return err
	}
	var pools int
	for _, a := range []struct {
		attr cu.DeviceAttribute
		to   *int
	}{
		{cu.ComputeCapabilityMajor, &d.Major},
		{cu.ComputeCapabilityMinor, &d.Minor},
		{cu.MultiprocessorCount, &d.Processors},
		{attrSharedOptIn, &d.SharedOptIn},
		{attrMemoryPools, &pools},
	} {
		if *a.to, err = d.Ordinal.Attribute(a.attr); err != nil {
			return err
		}
	}
	d.MemoryPools = pools != 0
	return nil
}

// Link is how one GPU reaches the memory of another.
type Link struct {
	Access  bool // peer access can be enabled
	Atomics bool // the link carries atomic operations: NVLink, as a rule
	Rank    int  // the driver's ranking of speed, 0 the fastest
}

// Links returns the link from each GPU (row) to each other one. The diagonal is the
// zero Link.
func Links(devs []Device) ([][]Link, error) {
	links := make([][]Link, len(devs))
	for i, a := range devs {
		links[i] = make([]Link, len(devs))
		for j, b := range devs {
			if i == j {
				continue
			}
			l, err := link(a.Ordinal, b.Ordinal)
			if err != nil {
				return nil, fmt.Errorf("driver: link of GPU %d to GPU %d: %w", a.Ordinal, b.Ordinal, err)
			}
			links[i][j] = l
		}
	}
	return links, nil
}

func link(from, to cu.Device) (Link, error) {
	access, err := from.CanAccessPeer(to)
	if err != nil || access == 0 {
		return Link{}, err
	}
	rank, err := from.P2PAttribute(cu.PerformanceRank, to)
	if err != nil {
		return Link{}, err
	}
	atomics, err := from.P2PAttribute(cu.P2PNativeAomicSupported, to)
	return Link{Access: true, Atomics: atomics != 0, Rank: rank}, err
}
