//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// walkthrough does what docs/kubernetes.md shows, from the first command to a run that
// has lost a spot node and is Complete, and writes down what is printed. The document
// quotes the file that is committed; what is printed now must be the same but for times,
// counts and the ends of names. -rewrite replaces the file.
func walkthrough(ctx context.Context, t *test) error {
	const namespace = "train"
	w := &transcript{test: t, namespace: namespace}
	w.show(ctx, "create namespace train", "create", "namespace", namespace)
	w.show(ctx, `-n train create secret generic agrdist --from-literal=secret="$(openssl rand -base64 32)"`,
		"-n", namespace, "create", "secret", "generic", "agrdist", "--from-literal=secret=0123456789abcdef0123456789abcdef")
	set := settings(endless)
	set["train.steps"] = "60"
	r, err := t.newRun(ctx, namespace, plan{components: []string{"spot"}, set: set, patches: `
- target: {kind: Job}
  patch: |-
    - op: add
      path: /spec/template/spec/topologySpreadConstraints
      value: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: agrdist}}}]
`})
	if err != nil {
		return err
	}
	w.show(ctx, "-n train apply -k OVERLAY", "-n", namespace, "apply", "-k", r.overlay)
	if err := errors.Join(w.err, r.ready(ctx, 3), r.reach(ctx, 5)); err != nil {
		return err
	}
	w.show(ctx, "-n train get pods", "-n", namespace, "get", "pods")
	w.comment("the provider takes a spot node: it is drained")
	w.show(ctx, "drain node-b --ignore-daemonsets --delete-emptydir-data", "drain", "node-b", "--ignore-daemonsets", "--delete-emptydir-data")
	if err := errors.Join(w.err, r.ready(ctx, 3), r.reach(ctx, r.step()+3)); err != nil {
		return err
	}
	w.show(ctx, "-n train get pods", "-n", namespace, "get", "pods")
	p, err := r.pod(0)
	if err != nil {
		return err
	}
	if err := w.log(ctx, r, p, "jq -r .msg | grep resuming", func(l logLine) string {
		if strings.Contains(l.Msg, "resuming") {
			return l.Msg
		}
		return ""
	}); err != nil {
		return err
	}
	if _, err := r.complete(ctx); err != nil {
		return err
	}
	w.show(ctx, "-n train get job agrdist", "-n", namespace, "get", "job", "agrdist")
	if err := w.log(ctx, r, p, "jq -c 'select(.digest) | {msg, step, digest}'", func(l logLine) string {
		if l.Digest == "" {
			return ""
		}
		text, _ := json.Marshal(l) // strings and a number
		return string(text)
	}); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "", "uncordon", "node-b"); err != nil {
		return err
	}
	want, err := r.reference(ctx)
	if err := errors.Join(w.err, err); err != nil {
		return err
	}
	return errors.Join(r.digest(want), w.compare())
}

// transcript is what a person would see.
type transcript struct {
	*test
	namespace string
	text      strings.Builder
	err       error
}

func (w *transcript) comment(text string) { fmt.Fprintf(&w.text, "# %s\n", text) }

// show runs kubectl, and writes down a command as a person types it and what it prints.
func (w *transcript) show(ctx context.Context, typed string, args ...string) {
	out, err := w.kubectl(ctx, "", args...)
	w.err = errors.Join(w.err, err)
	fmt.Fprintf(&w.text, "$ kubectl %s\n%s", typed, out)
}

// log writes down the lines of a pod's log that pick picks, as jq prints them.
func (w *transcript) log(ctx context.Context, r *run, p pod, jq string, pick func(line logLine) string) error {
	log, err := r.logs(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(&w.text, "$ kubectl -n %s logs %s | %s\n", w.namespace, p.Metadata.Name, jq)
	found := false
	for line := range strings.Lines(log) {
		var l logLine
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		if text := pick(l); text != "" {
			fmt.Fprintln(&w.text, text)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("nothing of %s is found by %s: %s", p.Metadata.Name, jq, log)
	}
	return nil
}

// logLine is what the walkthrough shows of a line.
type logLine struct {
	Msg    string `json:"msg"`
	Step   int64  `json:"step"`
	Digest string `json:"digest"`
}

// transcriptFile is committed, and quoted by docs/kubernetes.md.
const transcriptFile = "hack/e2e/testdata/walkthrough.txt"

func (w *transcript) compare() error {
	path := filepath.Join(w.repo, transcriptFile)
	if w.rewrite {
		return writeFile(path, w.text.String())
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if a, b := normal(string(old)), normal(w.text.String()); !slices.Equal(a, b) {
		return fmt.Errorf("what is printed differs from %s; make e2e E2E='-run walkthrough -rewrite' writes it again, then correct docs/kubernetes.md.\nWas:\n%s\nIs:\n%s",
			transcriptFile, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	return nil
}

var (
	randomEnd = regexp.MustCompile(`(agrdist-(?:config|\d))-[a-z0-9]+`)
	times     = regexp.MustCompile(`\b(\d+(\.\d+)?[hms])+\b`)
	digests   = regexp.MustCompile(`[0-9a-f]{64}`)
	// Whether an eviction has to wait, and whether a pod that ended is still listed.
	passing = regexp.MustCompile(`^error when evicting| (Error|Completed|Terminating) `)
	numbers = regexp.MustCompile(`\d+`)
	spaces  = regexp.MustCompile(`[ -]+`)
)

// normal is a text without what differs from time to time: numbers, ends of names, which
// of the pods were on a node, what passes, and the order of what a command prints.
func normal(text string) (out []string) {
	var block []string
	flush := func() {
		slices.Sort(block)
		out = append(out, slices.Compact(block)...)
		block = nil
	}
	for line := range strings.Lines(text) {
		line = randomEnd.ReplaceAllString(strings.TrimSpace(line), "$1-x")
		if passing.MatchString(line) {
			continue
		}
		line = digests.ReplaceAllString(line, "DIGEST")
		line = times.ReplaceAllString(line, "T")
		line = spaces.ReplaceAllString(numbers.ReplaceAllString(line, "N"), " ")
		if strings.HasPrefix(line, "$") {
			flush()
			out = append(out, line)
			continue
		}
		block = append(block, line)
	}
	flush()
	return out
}
