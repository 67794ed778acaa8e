//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// elastic grows a run from two pods to four and shrinks it to three, and takes a pod and
// a whole node from it; the others continue each time.
func elastic(ctx context.Context, t *test) error {
	if err := t.namespace(ctx, "elastic"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, "elastic", plan{components: []string{"elastic"}, set: settings(endless), patches: `
- target: {kind: Job}
  patch: |-
    - {op: replace, path: /spec/completions, value: 2}
    - {op: replace, path: /spec/parallelism, value: 2}
`})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	scale := func(n int) func() error {
		return func() error {
			return t.patch("/apis/batch/v1/namespaces/elastic/jobs/"+r.job, fmt.Sprintf(`{"spec":{"parallelism":%d,"completions":%d}}`, n, n))
		}
	}
	for _, f := range []struct {
		name       string
		pods, then int
		do         func() error
	}{
		{"elastic: 2 pods become 4", 2, 4, scale(4)},
		{"elastic: pod 1 is deleted", 4, 4, func() error { return r.deletePod(ctx, 1) }},
		{"elastic: pod 0 is deleted", 4, 4, func() error { return r.deletePod(ctx, 0) }},
		{"elastic: 4 pods become 3", 4, 3, scale(3)},
	} {
		if err := t.strike(ctx, r, f.name, f.pods, f.then, 0, f.do); err != nil {
			return err
		}
	}
	return r.finish(ctx, 2) // applied again as it was written
}

// drain takes a node away, as for an upgrade: its pods are evicted, one at a time as the
// PodDisruptionBudget has it, and start on the other.
func drain(ctx context.Context, t *test) error {
	if err := t.namespace(ctx, "drain"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, "drain", plan{set: settings(endless), patches: `
- target: {kind: Job}
  patch: |-
    - op: add
      path: /spec/template/spec/topologySpreadConstraints
      value: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: agrdist}}}]
`})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := t.strike(ctx, r, "the node of a pod is drained", 3, 3, 0, func() error {
			_, err := t.kubectl(ctx, "", "drain", n.name, "--delete-emptydir-data", "--ignore-daemonsets", "--force", "--timeout=120s")
			return err
		}); err != nil {
			return err
		}
		all, err := t.pods(r.namespace, r.job)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.Status.Phase == "Running" && p.Spec.NodeName == n.name {
				return fmt.Errorf("%s runs on the drained node", p.Metadata.Name)
			}
		}
		if _, err := t.kubectl(ctx, "", "uncordon", n.name); err != nil {
			return err
		}
	}
	if err := t.strike(ctx, r, "a pod is preempted by one of higher priority", 3, 3, 0, func() error { return r.preempt(ctx) }); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "default", "delete", "pod", "preemptor", "--timeout=60s"); err != nil {
		return err
	}
	return r.finish(ctx, 3)
}

// preempt starts a pod of a higher priority that fits on the node of pod 1 only without it.
func (r *run) preempt(ctx context.Context) error {
	p, err := r.pod(1)
	if err != nil {
		return err
	}
	var n struct {
		Status struct{ Allocatable map[string]string }
	}
	if err := r.get("/api/v1/nodes/"+p.Spec.NodeName, &n); err != nil {
		return err
	}
	if err := r.cluster.apply(ctx, "", fmt.Sprintf(`apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: preemptor}
value: 1000
---
apiVersion: v1
kind: Pod
metadata: {name: preemptor, namespace: default}
spec:
  priorityClassName: preemptor
  nodeSelector: {kubernetes.io/hostname: %s}
  terminationGracePeriodSeconds: 0
  containers: [{name: pause, image: registry.k8s.io/pause:3.10, resources: {requests: {cpu: "%s"}}}]
`, p.Spec.NodeName, n.Status.Allocatable["cpu"])); err != nil {
		return err
	}
	return until(ctx, "the pod of higher priority to run", func() bool {
		var q pod
		return r.get("/api/v1/namespaces/default/pods/preemptor", &q) == nil && q.Status.Phase == "Running"
	})
}

// finish ends an endless run: its Job is deleted and applied again with few steps left.
// The digest must be that of an undisturbed run on the host.
func (r *run) finish(ctx context.Context, pods int) error {
	if err := r.deleteJob(ctx, "foreground"); err != nil { // its pods are gone, too
		return err
	}
	stopped := r.step()
	r.set["train.steps"] = strconv.FormatInt(stopped+10, 10)
	if err := errors.Join(r.configure(r.set), r.apply(ctx)); err != nil {
		return err
	}
	j, err := r.complete(ctx)
	if err != nil {
		return err
	}
	if j.Status.Succeeded != pods {
		return fmt.Errorf("%s: %d of %d indices succeeded: %+v", r.job, j.Status.Succeeded, pods, j.Status)
	}
	want, err := r.reference(ctx)
	if err != nil {
		return err
	}
	events, err := r.events()
	if err != nil {
		return err
	}
	for _, e := range events { // the newest start is the one meant
		if e.Event == "start" && e.Step > 0 && e.Step == stopped {
			return r.digest(want)
		}
	}
	return fmt.Errorf("%s did not resume at step %d, where it was stopped", r.job, stopped)
}

// gpu schedules overlays/gpu on nodes that exist as objects only, with made-up GPUs.
func gpu(ctx context.Context, t *test) (err error) {
	if err := t.namespace(ctx, "gpu"); err != nil {
		return err
	}
	if _, err := t.claim(ctx, "gpu", "agrdist-runs"); err != nil {
		return err
	}
	defer func() {
		_, e1 := t.kubectl(ctx, "gpu", "delete", "job", "agrdist", "--wait=false")
		_, e2 := t.kubectl(ctx, "gpu", "delete", "pods", "--all", "--force", "--grace-period=0")
		_, e3 := t.kubectl(ctx, "", "delete", "nodes", "-l", "fake=true")
		err = errors.Join(err, e1, e2, e3)
	}()
	placed := func() map[string]string { // pod: node
		out := map[string]string{}
		all, _ := t.pods("gpu", "agrdist") // asked again soon
		for _, p := range all {
			if p.Spec.NodeName != "" {
				out[p.Metadata.Name] = p.Spec.NodeName
			}
		}
		return out
	}
	if err := errors.Join(t.fakeNode(ctx, "gpu-a", 8), t.fakeNode(ctx, "gpu-b", 2)); err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, "gpu", "apply", "-k", t.work+"/k8s/overlays/gpu"); err != nil {
		return err
	}
	var refused string
	if err := until(ctx, "one pod placed and one refused", func() bool {
		all, _ := t.pods("gpu", "agrdist") // asked again soon
		for _, p := range all {
			for _, c := range p.Status.Conditions {
				if c.Type == "PodScheduled" && c.Status == "False" {
					refused = c.Message
				}
			}
		}
		return len(placed()) == 1 && refused != ""
	}); err != nil {
		return err
	}
	// gpu-a has room for both pods, but a run has one pod a node; gpu-b has too few GPUs.
	if !strings.Contains(refused, "Insufficient nvidia.com/gpu") || !strings.Contains(refused, "topology spread constraints") {
		return fmt.Errorf("the second pod waits for: %s", refused)
	}
	if err := t.fakeNode(ctx, "gpu-c", 4); err != nil {
		return err
	}
	if err := until(ctx, "the second pod on the node that came", func() bool { return len(placed()) == 2 }); err != nil {
		return err
	}
	on := map[string]bool{}
	for _, node := range placed() {
		on[node] = true
	}
	if !on["gpu-a"] || !on["gpu-c"] {
		return fmt.Errorf("the pods are on %v", placed())
	}
	return nil
}

// fakeNode is a node that nothing stands behind, tainted as GPU nodes are.
func (c *cluster) fakeNode(ctx context.Context, name string, gpus int) error {
	if err := c.apply(ctx, "", fmt.Sprintf(`apiVersion: v1
kind: Node
metadata: {name: %[1]s, labels: {kubernetes.io/hostname: %[1]s, kubernetes.io/os: linux, fake: "true"}}
spec: {taints: [{key: nvidia.com/gpu, effect: NoSchedule}]}
`, name)); err != nil {
		return err
	}
	have := fmt.Sprintf(`{"cpu":"64","memory":"512Gi","pods":"110","nvidia.com/gpu":"%d"}`, gpus)
	return c.patch("/api/v1/nodes/"+name+"/status", fmt.Sprintf(
		`{"status":{"capacity":%[1]s,"allocatable":%[1]s,"conditions":[{"type":"Ready","status":"True","reason":"Fake","message":"no kubelet"}]}}`, have))
}
