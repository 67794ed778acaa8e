//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	var (
		rows  = flag.String("rows", "", "only the faults whose name this regular expression matches")
		times = flag.Int("times", 1, "how often each fault strikes; the table shows the worst")
		write = flag.String("write", "", "file whose table is replaced, between its two markers")
		keep  = flag.Bool("keep", false, "keep the runs' directories")
	)
	flag.Parse()
	if flag.NArg() != 1 || *times < 1 {
		fmt.Fprintln(os.Stderr, "usage: reliability [flags] AGRDIST")
		flag.PrintDefaults()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := execute(ctx, flag.Arg(0), *rows, *times, *write, *keep)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, binary, rows string, times int, write string, keep bool) (err error) {
	chosen, err := choose(rows)
	if err != nil {
		return err
	}
	if write != "" && rows != "" {
		return errors.New("-write replaces the whole table: leave -rows out")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	home, err := os.MkdirTemp("", "agrdist-reliability-")
	if err != nil {
		return err
	}
	if keep {
		fmt.Fprintln(os.Stdout, "the runs are in", home)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	}
	noHosts := hostsMissing()
	var measured []*result
	for _, f := range chosen {
		r := &result{fault: f, equal: true}
		measured = append(measured, r)
		if f.nodes > 1 && noHosts != "" || f.volume && os.Geteuid() != 0 {
			r.skipped = noHosts
			if r.skipped == "" {
				r.skipped = "mounting a small file system needs root"
			}
			fmt.Fprintf(os.Stdout, "%-22s skipped: %s\n", f.name, r.skipped)
			continue
		}
		for i := range times {
			m, err := once(ctx, binary, filepath.Join(home, fmt.Sprintf("%s-%d", f.name, i)), f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			r.add(m)
			fmt.Fprintf(os.Stdout, "%-22s %s\n", f.name, m)
		}
	}
	if err := compare(ctx, binary, home, measured); err != nil {
		return err
	}
	table := markdown(measured)
	fmt.Fprint(os.Stdout, "\n", table)
	if write != "" {
		if err := replace(write, header(ctx, times)+table); err != nil {
			return err
		}
	}
	return verdict(measured)
}

func choose(rows string) (out []fault, err error) {
	re, err := regexp.Compile(rows)
	if err != nil {
		return nil, fmt.Errorf("-rows: %w", err)
	}
	for _, f := range faults {
		if re.MatchString(f.name) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no fault's name matches -rows %q", rows)
	}
	return out, nil
}

// patience is how long a fault may take in all: only a hang takes so long.
const patience = 5 * time.Minute

// once starts a run, lets a fault strike, and stops the run when it is over.
func once(ctx context.Context, binary, dir string, f fault) (m measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w, err := newWorld(binary, dir, f)
	if err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, w.said())
		}
		err = errors.Join(err, w.close())
	}()
	for i := range f.nodes - f.later {
		if err := w.start(ctx, i); err != nil {
			return m, err
		}
	}
	if err := w.world(ctx, (f.nodes-f.later)*f.workers); err != nil {
		return m, err
	}
	if err := f.strike(ctx, w); err != nil {
		return m, err
	}
	w.until = time.Now()
	if err := w.end(); err != nil {
		return m, err
	}
	return w.measure(ctx)
}
