//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agrdist/agrdist/metrics"
)

// measurement is what a fault did to one run.
type measurement struct {
	detected   time.Duration // until the coordinator reacted; negative: it had no need to
	standstill time.Duration // the longest time between two committed steps since
	again      int64         // steps made a second time
	step       int64         // of the last checkpoint
	digest     string        // of it
}

func (m measurement) String() string {
	return fmt.Sprintf("detected %s, standstill %s, %d steps made again, ended at step %d", seconds(m.detected), seconds(m.standstill), m.again, m.step)
}

func when(e metrics.Event) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, e.Time) // the program writes them
	return t
}

func sorted(events []metrics.Event) []metrics.Event {
	slices.SortStableFunc(events, func(a, b metrics.Event) int { return when(a).Compare(when(b)) })
	return events
}

// measure reads the records of a run that has ended.
func (w *world) measure(ctx context.Context) (m measurement, err error) {
	m.detected, err = w.noticed()
	if err != nil {
		return m, err
	}
	all, err := w.events()
	if err != nil {
		return m, err
	}
	m.standstill, m.again = disturbance(all, w.at, w.until)
	if w.standstill > 0 {
		m.standstill = w.standstill
	}
	m.step, m.digest, err = w.checkpoint(ctx)
	return m, err
}

// disturbance is the longest time without a committed step between two moments, the last
// step before them counted in, and how many steps were made a second time.
func disturbance(events []metrics.Event, at, until time.Time) (standstill time.Duration, again int64) {
	last, highest := at, int64(0)
	for _, e := range events {
		if e.Event != metrics.EventStep {
			continue
		}
		t := when(e)
		if t.After(at) && t.Before(until) {
			standstill = max(standstill, t.Sub(last))
		}
		if e.Step <= highest {
			again++
		}
		last, highest = later(t, at), max(highest, e.Step)
	}
	return standstill, again
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var logTime = regexp.MustCompile(`^time=(\S+) `)

// noticed is how long after the fault the first agent wrote down that it reacts.
func (w *world) noticed() (time.Duration, error) {
	pattern := w.reacts
	if pattern == "" {
		pattern = formed
	}
	first := time.Duration(-1)
	for _, n := range w.nodes {
		logs, err := filepath.Glob(filepath.Join(n.dir, "logs", "*agent.log"))
		if err != nil {
			return 0, err
		}
		for _, path := range logs {
			f, err := os.Open(path)
			if err != nil {
				return 0, err
			}
			for s := bufio.NewScanner(f); s.Scan(); {
				m := logTime.FindStringSubmatch(s.Text())
				if m == nil || !strings.Contains(s.Text(), pattern) {
					continue
				}
				t, err := time.Parse(time.RFC3339Nano, m[1])
				if err == nil && !t.Before(w.at.Truncate(time.Millisecond)) && (first < 0 || t.Sub(w.at) < first) {
					first = max(0, t.Sub(w.at))
				}
			}
			if err := f.Close(); err != nil {
				return 0, err
			}
		}
	}
	return first, nil
}

// checkpoint is the newest one on any node. The program verifies it.
func (w *world) checkpoint(ctx context.Context) (step int64, digest string, err error) {
	newest := ""
	for _, n := range w.nodes {
		paths, err := filepath.Glob(filepath.Join(n.dir, "checkpoints", "step-*"))
		if err != nil {
			return 0, "", err
		}
		for _, path := range paths {
			k, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), "step-"), 10, 64)
			if err == nil && k > step {
				step, newest = k, path
			}
		}
	}
	if newest == "" {
		return 0, "", errors.New("the run left no checkpoint")
	}
	digest, err = verify(ctx, w.binary, newest)
	return step, digest, err
}

var digestOf = regexp.MustCompile(`verified, .* digest ([0-9a-f]{64})`)

func verify(ctx context.Context, binary, path string) (string, error) {
	text, err := exec.CommandContext(ctx, binary, "checkpoint", "verify", path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not verify: %w\n%s", path, err, text)
	}
	m := digestOf.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("no digest of %s in: %s", path, text)
	}
	return string(m[1]), nil
}

// compare trains the model once more with one worker that nothing disturbs, and compares
// each run's last checkpoint with its own of the same step.
func compare(ctx context.Context, binary, home string, all []*result) error {
	var steps []string
	last := int64(0)
	for _, r := range all {
		for _, m := range r.measured {
			steps, last = append(steps, strconv.FormatInt(m.step, 10)), max(last, m.step)
		}
	}
	if last == 0 {
		return nil
	}
	dir := filepath.Join(home, "undisturbed")
	args := []string{"run", "--out", dir, "--workers", "1"}
	for _, s := range append(append([]string(nil), tiny...), "train.steps="+strconv.FormatInt(last, 10), "checkpoint.every=0",
		"log.every=1000", "checkpoint.keep_at=["+strings.Join(steps, ",")+"]") {
		args = append(args, "--set", s)
	}
	if text, err := exec.CommandContext(ctx, binary, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("the undisturbed run: %w\n%s", err, text)
	}
	for _, r := range all {
		for _, m := range r.measured {
			want, err := verify(ctx, binary, filepath.Join(dir, "checkpoints", "step-"+strconv.FormatInt(m.step, 10)))
			if err != nil {
				return err
			}
			r.equal = r.equal && want == m.digest
		}
	}
	return nil
}
