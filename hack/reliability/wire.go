//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// wire is some hosts on one switch. A host is a network namespace with one network card, a
// TAP device; the switch is this process, which hands frames on, or does not.
type wire struct {
	names []string
	cards []*os.File

	mu   sync.Mutex
	cut  map[[2]int]bool // from, to
	loss float64

	tasks sync.WaitGroup
}

// hostsMissing says why there can be no hosts here; empty: there can.
func hostsMissing() string {
	if os.Geteuid() != 0 {
		return "network namespaces need root"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "network namespaces need the ip command (iproute2)"
	}
	w, err := newWire(1)
	if err != nil {
		return "no network namespace with a TAP device can be made here: " + err.Error()
	}
	if err := w.close(); err != nil {
		return err.Error()
	}
	return ""
}

func newWire(hosts int) (_ *wire, err error) {
	w := &wire{cut: map[[2]int]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for i := range hosts {
		name := fmt.Sprintf("agrdist-rel-%d-%d", os.Getpid(), i)
		if err := ip("netns", "add", name); err != nil {
			return w, err
		}
		w.names = append(w.names, name)
		card, err := tap(name)
		if err != nil {
			return w, err
		}
		w.cards = append(w.cards, card)
		for _, args := range [][]string{
			{"link", "set", "eth0", "address", mac(i), "mtu", "9000"},
			{"address", "add", address(i) + "/24", "dev", "eth0"},
			{"link", "set", "lo", "up"},
			{"link", "set", "eth0", "up"},
		} {
			if err := ip(append([]string{"-n", name}, args...)...); err != nil {
				return w, err
			}
		}
	}
	for i := range w.cards {
		w.tasks.Go(func() { w.forward(i) })
	}
	return w, nil
}

func mac(i int) string     { return fmt.Sprintf("02:00:00:00:00:%02x", i+1) }
func address(i int) string { return fmt.Sprintf("10.231.79.%d", i+1) }

// tap makes the network card eth0 of a network namespace.
func tap(namespace string) (*os.File, error) {
	type made struct {
		f   *os.File
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread stays in the namespace, and ends
		f, err := func() (*os.File, error) {
			ns, err := os.Open("/var/run/netns/" + namespace)
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil, fmt.Errorf("/dev/net/tun: %w", err)
			}
			request, err := unix.NewIfreq("eth0")
			if err == nil {
				request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
			}
			if err != nil {
				return nil, errors.Join(fmt.Errorf("/dev/net/tun: %w", err), unix.Close(fd))
			}
			return os.NewFile(uintptr(fd), "tap of "+namespace), nil
		}()
		c <- made{f, err}
	}()
	m := <-c
	return m.f, m.err
}

// forward hands on what a host sends, until its card is closed.
func (w *wire) forward(from int) {
	frame := make([]byte, 1<<16)
	for {
		n, err := w.cards[from].Read(frame)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < 14 {
			continue // the card was taken down for a moment
		}
		// The last byte of an address is the host's number; all but broadcasts go to one.
		to := int(frame[5]) - 1
		for i := range w.cards {
			if i != from && (i == to || frame[0]&1 == 1) && w.passes(from, i) {
				_, _ = w.cards[i].Write(frame[:n]) // a frame that does not fit is lost, as on any network
			}
		}
	}
}

func (w *wire) passes(from, to int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.cut[[2]int{from, to}] && (w.loss == 0 || rand.Float64() >= w.loss)
}

// link lets two hosts reach one another, or not.
func (w *wire) link(a, b int, works bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]int{a, b}], w.cut[[2]int{b, a}] = !works, !works
}

// cable connects a host with all others, or with none.
func (w *wire) cable(i int, plugged bool) {
	for k := range w.cards {
		if k != i {
			w.link(i, k, plugged)
		}
	}
}

// lose drops a share of all frames.
func (w *wire) lose(share float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = share
}

func (w *wire) close() error {
	var errs []error
	for _, c := range w.cards {
		errs = append(errs, c.Close())
	}
	w.tasks.Wait()
	for _, name := range w.names {
		errs = append(errs, ip("netns", "delete", name))
	}
	return errors.Join(errs...)
}

func ip(args ...string) error {
	//nolint:noctx // it ends at once, and at the end when the context is done
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
