//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// run is a training run in the cluster.
type run struct {
	*cluster
	namespace, job string
	volume         string // the claim's directory on this machine
	name           string // of the run's directory on the volume
	overlay        string
	set            map[string]string // settings
}

// plan says how a run differs from the base.
type plan struct {
	suffix     string
	components []string
	set        map[string]string // settings of the configuration, by key
	patches    string            // more entries of the kustomization's patches
}

// Small enough for any machine. The limit makes training as slow on a large machine as on
// two cores: faults must have time to strike.
const small = `
- target: {kind: Job}
  patch: |-
    - {op: replace, path: /spec/template/spec/containers/0/resources, value: {requests: {cpu: 100m, memory: 200Mi}, limits: {cpu: 600m, memory: 1Gi}}}
`

// namespace makes one with Pod Security "restricted", and the run's secret in it.
func (c *cluster) namespace(ctx context.Context, name string) error {
	return c.apply(ctx, "", fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
  labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted}
---
apiVersion: v1
kind: Secret
metadata: {name: agrdist, namespace: %[1]s}
stringData: {secret: 0123456789abcdef0123456789abcdef}
`, name))
}

// claim makes the volume that a claim will be bound to. As on a real hostPath, its owner
// has to be set by hand.
func (c *cluster) claim(ctx context.Context, namespace, claim string) (string, error) {
	dir := filepath.Join(c.state, "volumes", namespace, claim)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, 65532, 65532)); err != nil {
		return "", err
	}
	return dir, c.apply(ctx, "", fmt.Sprintf(`apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s-%[2]s}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteMany]
  claimRef: {namespace: %[1]s, name: %[2]s}
  hostPath: {path: %[3]s, type: Directory}
`, namespace, claim, dir))
}

// newRun prepares a run of the base in a namespace; apply starts it.
func (c *cluster) newRun(ctx context.Context, namespace string, p plan) (*run, error) {
	r := &run{cluster: c, namespace: namespace, job: "agrdist" + p.suffix, name: "digits", set: p.set}
	var err error
	if r.volume, err = c.claim(ctx, namespace, "agrdist-runs"+p.suffix); err != nil {
		return nil, err
	}
	r.overlay = filepath.Join(c.work, "k8s", "overlays", namespace+p.suffix)
	if err := os.MkdirAll(r.overlay, 0o755); err != nil {
		return nil, err
	}
	if err := r.configure(p.set); err != nil {
		return nil, err
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\n"
	if p.suffix != "" {
		text += fmt.Sprintf("nameSuffix: %s\nlabels: [{pairs: {app.kubernetes.io/instance: %s}, includeSelectors: true, includeTemplates: true}]\n", p.suffix, p.suffix[1:])
	}
	text += "configMapGenerator: [{name: agrdist-config, behavior: replace, files: [config.yaml]}]\npatches:" + small + p.patches
	text += "components:\n"
	for _, name := range p.components {
		text += "- ../../components/" + name + "\n"
	}
	if len(p.components) == 0 {
		text = strings.TrimSuffix(text, "components:\n")
	}
	return r, writeFile(filepath.Join(r.overlay, "kustomization.yaml"), text)
}

// configure writes the base's configuration with other settings.
func (r *run) configure(set map[string]string) error {
	text, err := os.ReadFile(filepath.Join(r.work, "k8s", "base", "config.yaml"))
	if err != nil {
		return err
	}
	for key, value := range set {
		section, name, _ := strings.Cut(key, ".")
		line := regexp.MustCompile(`(?m)^  ` + name + `: .*\n`)
		at := regexp.MustCompile(`(?m)^` + section + `:\n`).FindIndex(text)
		if at == nil {
			text = append(text, (section + ":\n")...)
			at = []int{0, len(text)}
		}
		head, tail := text[:at[1]], line.ReplaceAll(text[at[1]:], nil)
		text = bytes.Join([][]byte{head, []byte("  " + name + ": " + value + "\n"), tail}, nil)
	}
	return os.WriteFile(filepath.Join(r.overlay, "config.yaml"), text, 0o644)
}

func (r *run) apply(ctx context.Context) error {
	_, err := r.kubectl(ctx, r.namespace, "apply", "-k", r.overlay)
	return err
}

func (r *run) status() (j job, err error) {
	err = r.get("/apis/batch/v1/namespaces/"+r.namespace+"/jobs/"+r.job, &j)
	return j, err
}

// complete waits until the Job is over, and returns an error unless it is Complete.
func (r *run) complete(ctx context.Context) (j job, err error) {
	err = until(ctx, "the end of Job "+r.job, func() bool {
		var e error
		j, e = r.status()
		return e == nil && (is(j.Status.Conditions, "Complete") || is(j.Status.Conditions, "Failed"))
	})
	if err == nil && is(j.Status.Conditions, "Failed") {
		err = fmt.Errorf("the Job %s failed: %+v", r.job, j.Status)
	}
	return j, err
}

// ready waits until n pods are ready: their workers are in a generation.
func (r *run) ready(ctx context.Context, n int) error {
	return until(ctx, fmt.Sprintf("%d ready pods of %s", n, r.job), func() bool {
		j, err := r.status()
		return err == nil && j.Status.Ready == n && j.Status.Active == n
	})
}

// event is a line of events.jsonl.
type event struct {
	Event, Reason string
	Time          time.Time
	Step, Steps   int64
	Digest        string   `json:"model_digest"`
	Members       []string // of a generation
	Generation    uint64
	ResumedAt     *int64 `json:"resumed_at"`
}

func (r *run) events() (out []event, err error) {
	text, err := os.ReadFile(filepath.Join(r.volume, r.name, "events.jsonl"))
	if err != nil {
		return nil, err
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var e event
		if json.Unmarshal(s.Bytes(), &e) == nil { // the last line may be half written
			out = append(out, e)
		}
	}
	return out, nil
}

// step is the newest step made.
func (r *run) step() (n int64) {
	events, _ := r.events() // none yet
	for _, e := range events {
		if e.Event == "step" {
			n = e.Step
		}
	}
	return n
}

// reach waits for a step.
func (r *run) reach(ctx context.Context, n int64) error {
	return until(ctx, fmt.Sprintf("step %d of %s", n, r.job), func() bool { return r.step() >= n })
}

// digest is the model's at the end; an error if it differs from what it must be.
func (r *run) digest(want string) error {
	events, err := r.events()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Event == "finish" {
			if e.Digest != want {
				return fmt.Errorf("%s ended with digest %.12s, the host with %.12s", r.job, e.Digest, want)
			}
			return nil
		}
	}
	return fmt.Errorf("no event finish in %s", r.volume)
}

// disturbance is what a fault did to training.
type disturbance struct {
	standstill time.Duration // the longest time between two steps since
	again      int           // steps made again
}

// since measures the events after a moment.
func (r *run) since(at time.Time) (d disturbance, err error) {
	events, err := r.events()
	if err != nil {
		return d, err
	}
	var last event
	highest := int64(0)
	for _, e := range events {
		if e.Event != "step" {
			continue
		}
		if e.Time.After(at) {
			if last.Event != "" {
				d.standstill = max(d.standstill, e.Time.Sub(last.Time))
			}
			if e.Step <= highest {
				d.again++
			}
		}
		last, highest = e, max(highest, e.Step)
	}
	return d, nil
}

// pod is the newest pod of an index that is not about to go.
func (r *run) pod(index int) (pod, error) {
	all, err := r.pods(r.namespace, r.job)
	if err != nil {
		return pod{}, err
	}
	for _, p := range all {
		if p.Metadata.Annotations["batch.kubernetes.io/job-completion-index"] == fmt.Sprint(index) && p.Metadata.DeletionTimestamp == nil &&
			p.Status.Phase == "Running" {
			return p, nil
		}
	}
	return pod{}, fmt.Errorf("no pod of index %d runs", index)
}

// kill sends SIGKILL to an agrdist process of a pod: the agent ("run") or one of its
// workers ("worker"). A container's processes are found by their control group.
func (r *run) kill(index int, command string) error {
	p, err := r.pod(index)
	if err != nil {
		return err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range all {
		group, _ := os.ReadFile(dir + "/cgroup") // it may have gone
		line, _ := os.ReadFile(dir + "/cmdline")
		words := strings.Split(string(line), "\x00")
		if !strings.Contains(string(group), p.Metadata.UID) || len(words) < 2 || words[1] != command {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("no process %q in pod %s", command, p.Metadata.Name)
}

// logs are those of a pod.
func (r *run) logs(ctx context.Context, p pod) (string, error) {
	return r.kubectl(ctx, r.namespace, "logs", p.Metadata.Name)
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
