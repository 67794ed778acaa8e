// Command benchstatus measures what watching a run costs:
//
//	go run ./hack/benchstatus [-pairs 10] [-steps 60] [-clients 200] [-seconds 120] AGRDIST
//
// First, pairs of runs, one with everything that observes it switched off and one with
// everything on and a scrape each second, in alternating order: the ratio of their
// processor time (all processes of the run, so that the machine's other load counts
// little), whether their digests agree, and the agent's largest resident memory. Then one
// run whose page is, by turns, left alone and watched by many clients of the event stream
// with a scrape each second: the processor time of its workers by step. All of it stays on
// loopback and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agrdist/agrdist/metrics"
	"github.com/agrdist/agrdist/status"
)

var (
	pairs   = flag.Int("pairs", 10, "pairs of runs")
	steps   = flag.Int("steps", 60, "steps of each run")
	clients = flag.Int("clients", 200, "clients of the event stream")
	seconds = flag.Int("seconds", 120, "how long they watch")
)

// everythingOff switches off all that observes a run.
var everythingOff = []string{"dashboard.bind=off", "log.tensorboard=false", "log.measure_every=0", "log.every=1000000"}

func main() {
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := measure(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "benchstatus:", err)
		os.Exit(1)
	}
}

func measure(binary string) error {
	home, err := os.MkdirTemp("", "benchstatus-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if *pairs > 0 {
		if err := compare(binary, home); err != nil {
			return err
		}
	}
	if *clients == 0 {
		return nil
	}
	return crowd(binary, home)
}

// result is what a run cost.
type result struct {
	cpu    time.Duration // of all its processes
	memory int64         // largest resident memory of the agent, bytes
	digest string
}

func compare(binary, home string) error {
	var ratios, extra []float64
	for i := range *pairs {
		var off, on result
		var err error
		for k := range 2 {
			name := filepath.Join(home, fmt.Sprintf("run-%d-%d", i, k))
			if (i+k)%2 == 0 {
				off, err = once(binary, name, false)
			} else {
				on, err = once(binary, name, true)
			}
			if err != nil {
				return err
			}
		}
		if off.digest != on.digest {
			return fmt.Errorf("pair %d: the digests differ: %s off, %s on", i, off.digest, on.digest)
		}
		ratios = append(ratios, on.cpu.Seconds()/off.cpu.Seconds())
		extra = append(extra, float64(on.memory-off.memory)/1e6)
		fmt.Fprintf(os.Stdout, "pair %2d: processor time %.2f s off, %.2f s on, ratio %.4f; agent %.0f MB off, %.0f MB on\n",
			i+1, off.cpu.Seconds(), on.cpu.Seconds(), ratios[i], float64(off.memory)/1e6, float64(on.memory)/1e6)
	}
	fmt.Fprintf(os.Stdout, "on against off, %d pairs: processor time median %+.2f %% (from %+.2f %% to %+.2f %%), agent's memory median %+.1f MB, digests equal\n",
		*pairs, 100*(median(ratios)-1), 100*(slices.Min(ratios)-1), 100*(slices.Max(ratios)-1), median(extra))
	return nil
}

func once(binary, dir string, on bool) (r result, err error) {
	args := []string{"run", "--out", dir, "--set", "train.steps=" + strconv.Itoa(*steps), "--set", "sample.every=0", "--set", "sample.count=0"}
	if !on {
		for _, s := range everythingOff {
			args = append(args, "--set", s)
		}
	}
	c := exec.CommandContext(context.Background(), binary, args...)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { r.memory = peak(ctx, c.Process.Pid) })
	if on {
		watching.Go(func() { scrapes(ctx, dir) })
	}
	err = c.Wait()
	cancel()
	watching.Wait()
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, out.String())
	}
	r.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime() // with the workers, which the agent has reaped
	m := regexp.MustCompile(`digest +([0-9a-f]{64})`).FindStringSubmatch(out.String())
	if m == nil {
		return r, fmt.Errorf("the run printed no digest:\n%s", out.String())
	}
	r.digest = m[1]
	return r, nil
}

// peak reads the largest resident memory of a process until the context ends.
func peak(ctx context.Context, pid int) (most int64) {
	hwm := regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
	for ctx.Err() == nil {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			if m := hwm.FindSubmatch(b); m != nil {
				kb, _ := strconv.ParseInt(string(m[1]), 10, 64) // digits
				most = max(most, kb<<10)
			}
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return most
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// scrapes asks for /metrics each second.
func scrapes(ctx context.Context, dir string) {
	for ctx.Err() == nil {
		for _, e := range status.Endpoints(dir) {
			if body, err := get(ctx, e, "/metrics"); err == nil {
				_, _ = io.Copy(io.Discard, body)
				_ = body.Close()
			}
		}
		sleep(ctx, time.Second)
	}
}

func get(ctx context.Context, e status.Endpoint, path string) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+e.Token)
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		_ = r.Body.Close()
		return nil, errors.New(r.Status)
	}
	return r.Body, nil
}

// rounds is how often the crowd comes and goes.
const rounds = 3

// crowd lets many clients watch a run, in rounds with pauses of the same length.
func crowd(binary, home string) error {
	dir := filepath.Join(home, "crowd")
	c := exec.CommandContext(context.Background(), binary, "run", "--out", dir, "--set", "train.steps=100000000", "--set", "sample.count=0", "--set", "checkpoint.every=0")
	if err := c.Start(); err != nil {
		return err
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait() // it saves and stops
	}()
	var pids []int
	for range 600 {
		if pids = workers(dir); len(pids) > 0 && newest(dir) > 20 {
			break
		}
		sleep(context.Background(), 100*time.Millisecond)
	}
	if len(pids) == 0 {
		return errors.New("the run does not begin")
	}
	length := time.Duration(*seconds) * time.Second / rounds
	var alone, watched []float64
	for i := range rounds {
		alone = append(alone, perStep(dir, pids, length, nil))
		var got atomic.Int64
		watched = append(watched, perStep(dir, pids, length, func(ctx context.Context) { watch(ctx, dir, &got) }))
		fmt.Fprintf(os.Stdout, "round %d: worker processor time a step %.2f ms alone, %.2f ms with %d clients (%d KB streamed)\n", i+1, alone[i], watched[i], *clients, got.Load()/1000)
	}
	fmt.Fprintf(os.Stdout, "%d clients and a scrape a second, %d s: median %.2f ms a step, %.2f ms alone (%+.2f %%)\n",
		*clients, *seconds, median(watched), median(alone), 100*(median(watched)/median(alone)-1))
	return nil
}

// perStep is the workers' processor time for a step, in milliseconds, over a while.
func perStep(dir string, pids []int, length time.Duration, during func(ctx context.Context)) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if during != nil {
			during(ctx)
		}
	}()
	sleep(ctx, time.Second) // the crowd is there
	from, began := newest(dir), ticks(pids)
	<-ctx.Done()
	taken := ticks(pids) - began
	step := newest(dir)
	<-done
	return 10 * float64(taken) / float64(max(1, step-from)) // a tick is 10 ms
}

// watch is a crowd that reads the event stream, and one that scrapes.
func watch(ctx context.Context, dir string, got *atomic.Int64) {
	var all sync.WaitGroup
	all.Go(func() { scrapes(ctx, dir) })
	ends := status.Endpoints(dir)
	for range *clients {
		all.Go(func() {
			body, err := get(ctx, ends[0], "/api/runs/crowd/stream")
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, body) // until the context ends
			_ = body.Close()
			got.Add(n)
		})
	}
	all.Wait()
}

// newest is the step of the newest event.
func newest(dir string) (step int64) {
	all, err := metrics.History(filepath.Join(dir, "events.jsonl"))
	if err != nil || len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Step
}

// workers are the processes of the first generation.
func workers(dir string) (pids []int) {
	all, err := metrics.History(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return nil
	}
	for _, e := range all {
		for _, m := range e.Members {
			if n := regexp.MustCompile(`pid (\d+)`).FindStringSubmatch(m); n != nil {
				pid, _ := strconv.Atoi(n[1]) // digits
				pids = append(pids, pid)
			}
		}
		if len(pids) > 0 {
			break
		}
	}
	return pids
}

// ticks is the processor time of processes, in hundredths of a second.
func ticks(pids []int) (sum int64) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime, stime
			n, _ := strconv.ParseInt(f[i], 10, 64) // digits
			sum += n
		}
	}
	return sum
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
