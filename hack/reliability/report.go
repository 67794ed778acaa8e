//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// result is a row of the table.
type result struct {
	fault
	measured []measurement
	worst    measurement
	equal    bool
	skipped  string // why
}

func (r *result) add(m measurement) {
	r.measured = append(r.measured, m)
	r.worst.detected = max(r.worst.detected, m.detected)
	r.worst.standstill = max(r.worst.standstill, m.standstill)
	r.worst.again = max(r.worst.again, m.again)
	if len(r.measured) == 1 {
		r.worst.detected = m.detected
	}
}

// tooLong is far longer than was promised: this is a check, on machines that others load.
func (r *result) tooLong() time.Duration { return max(10*r.promise, 30*time.Second) }

// verdict is an error for each row that breaks what the page promises.
func verdict(all []*result) error {
	var errs []error
	for _, r := range all {
		if r.skipped != "" {
			continue
		}
		if !r.equal {
			errs = append(errs, fmt.Errorf("%s: the digest differs from that of an undisturbed run", r.name))
		}
		if r.worst.again > r.again {
			errs = append(errs, fmt.Errorf("%s: %d steps were lost and made again; at most %d may be", r.name, r.worst.again, r.again))
		}
		if r.worst.standstill > r.tooLong() {
			errs = append(errs, fmt.Errorf("%s: training stood still for %s, %s is promised", r.name, seconds(r.worst.standstill), r.promise))
		}
	}
	return errors.Join(errs...)
}

func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func markdown(all []*result) string {
	var b strings.Builder
	b.WriteString("| fault | row | detected | standstill | promised | steps lost | digest equal |\n|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		if r.skipped != "" {
			fmt.Fprintf(&b, "| %s | `%s` | not measured: %s | | | | |\n", r.what, r.name, r.skipped)
			continue
		}
		equal := "yes"
		if !r.equal {
			equal = "**no**"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %d | %s |\n", r.what, r.name, seconds(r.worst.detected), seconds(r.worst.standstill),
			fmt.Sprintf("%.0f s", r.promise.Seconds()), r.worst.again, equal)
	}
	return b.String()
}

// header says where and when the table was measured.
func header(ctx context.Context, times int) string {
	load, _ := os.ReadFile("/proc/loadavg")
	busy, _, _ := strings.Cut(string(load), " ")
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); m != nil {
			cpu = string(m[1])
		}
	}
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return fmt.Sprintf("Measured on %s at commit %s: %s, %d cores (load %s at the end), all nodes on this one machine;\nthe worst of %d.\n\n",
		time.Now().UTC().Format(time.DateOnly), bytes.TrimSpace(commit), cpu, runtime.NumCPU(), busy, times)
}

const (
	begins = "<!-- make reliability writes what follows -->\n"
	ends   = "<!-- until here -->\n"
)

// replace puts the text between the two markers of a file.
func replace(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(old), begins)
	_, tail, closed := strings.Cut(rest, ends)
	if !found || !closed {
		return fmt.Errorf("%s has no line %q with a line %q after it", path, strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return os.WriteFile(path, []byte(head+begins+"\n"+text+"\n"+ends+tail), 0o644)
}
