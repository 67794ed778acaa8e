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
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// closing is set once the test is over: parts that end then say nothing of interest.
var closing atomic.Bool

// scenario is one thing that is tried.
type scenario struct {
	name  string
	short bool // part of the short form
	run   func(ctx context.Context, t *test) error
}

// test is what scenarios share.
type test struct {
	*cluster
	table   []row // of docs/kubernetes.md
	rewrite bool  // what was printed is written over what is committed
}

// row is a line of the table: what a fault did.
type row struct {
	fault      string
	standstill time.Duration
	again      int
	counts     counts
}

var scenarios = []scenario{
	{"two-runs", true, twoRuns},
	{"bad-configuration", true, badConfiguration},
	{"faults", true, faults},
	{"walkthrough", false, walkthrough},
	{"drain", false, drain},
	{"mirror", false, mirror},
	{"gpu", false, gpu},
	{"elastic", false, elastic},
	{"trainjob", false, trainJob},
	{"topology", false, topology},
	{"image-list", false, imageList},
	{"network-policy", false, networkPolicy}, // the last: what enforces it stays
}

func main() {
	var (
		short   = flag.Bool("short", false, "only the scenarios of CI")
		only    = flag.String("run", "", "only scenarios whose name this regular expression matches")
		keep    = flag.Bool("keep", false, "when a scenario fails, keep the cluster until a signal comes")
		rewrite = flag.Bool("rewrite", false, "write what the walkthrough prints to "+transcriptFile)
		hold    = flag.Bool("hold", false, "run no scenario: keep the cluster until a signal comes")
	)
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := execute(ctx, *short, *rewrite, *only, *keep, *hold)
	closing.Store(true)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, short, rewrite bool, only string, keep, hold bool) error {
	chosen, err := choose(short, only)
	if err != nil {
		return err
	}
	env := os.Getenv
	t := &test{rewrite: rewrite, cluster: &cluster{
		work: env("E2E_WORK"), state: filepath.Join(env("E2E_WORK"), "state"), kube: env("E2E_KUBE"), repo: env("E2E_REPO"),
	}}
	if t.work == "" {
		return errors.New("run hack/e2e-k8s.sh, which makes the namespaces")
	}
	began := time.Now()
	if err := t.up(ctx); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "e2e: the cluster is up after %.1f s\n", time.Since(began).Seconds())
	wait := func() {
		pid, _ := os.ReadFile(filepath.Join(t.work, "pid")) // for people only
		fmt.Fprintf(os.Stdout, "e2e: the cluster stays until a signal comes:\n  nsenter -t %s -a %s/kubectl --kubeconfig %s/admin.kubeconfig get pods -A\n",
			strings.TrimSpace(string(pid)), t.kube, t.state)
		<-ctx.Done()
	}
	if hold {
		wait()
		return nil
	}
	for _, s := range chosen {
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, 10*time.Minute)
		err := s.run(within, t)
		cancel()
		if err != nil {
			t.explain(context.WithoutCancel(ctx))
			fmt.Fprintf(os.Stdout, "FAIL %s after %.1f s: %v\n", s.name, time.Since(began).Seconds(), err)
			if keep {
				wait()
			}
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stdout, "ok   %s (%.1f s)\n", s.name, time.Since(began).Seconds())
	}
	t.print()
	return nil
}

func choose(short bool, only string) (out []scenario, err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	for _, s := range scenarios {
		if match.MatchString(s.name) && (s.short || !short || only != "") {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no scenario matches %q", only)
	}
	return out, nil
}

// up starts everything. The image is built while the control plane starts.
func (t *test) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := os.CopyFS(filepath.Join(t.work, "k8s"), os.DirFS(filepath.Join(t.repo, "deploy/k8s"))); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(t.work, "log"), 0o755); err != nil {
		return err
	}
	type built struct {
		images []string
		err    error
	}
	images := make(chan built, 1)
	go func() {
		list, err := t.images(ctx)
		images <- built{list, err}
	}()
	if err := t.start(ctx); err != nil {
		return err
	}
	b := <-images
	if b.err != nil {
		return b.err
	}
	if err := t.dns(ctx); err != nil {
		return err
	}
	joined := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { joined <- t.join(ctx, n, b.images) }()
	}
	var err error
	for range nodes {
		err = errors.Join(err, <-joined)
	}
	return err
}

// explain prints what a person looks at first when something went wrong.
func (t *test) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "nodes"}, {"get", "pods,jobs", "-A", "-o", "wide"}, {"get", "events", "-A", "--sort-by=.lastTimestamp"},
	} {
		out, err := t.kubectl(ctx, "", args...)
		fmt.Fprintln(os.Stdout, tail(out, 25), err)
	}
	logs, _ := filepath.Glob(filepath.Join(t.work, "log", "node-*", "*", "agrdist", "*.log"))
	for _, l := range logs {
		text, _ := os.ReadFile(l)
		fmt.Fprintf(os.Stdout, "== %s\n%s\n", l, tail(string(text), 15))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// print prints the table.
func (t *test) print() {
	if len(t.table) == 0 {
		return
	}
	fmt.Fprintln(os.Stdout, "\n| fault | standstill, s | steps made again | failures counted | failures ignored | digest |\n|---|---|---|---|---|---|")
	for _, r := range t.table {
		fmt.Fprintf(os.Stdout, "| %s | %.1f | %d | %d | %d | equal |\n", r.fault, r.standstill.Seconds(), r.again, r.counts.counted, r.counts.ignored)
	}
}
