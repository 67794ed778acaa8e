//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// topology labels the nodes with zones. Each pod must learn its own from the label that
// the API server copies to it, and pods of one node must have ranks next to each other,
// also after one of them was restarted.
func topology(ctx context.Context, t *test) error {
	for i, n := range nodes {
		if _, err := t.kubectl(ctx, "", "label", "node", n.name, "--overwrite",
			"topology.kubernetes.io/region=north", fmt.Sprintf("topology.kubernetes.io/zone=north-%d", i+1)); err != nil {
			return err
		}
	}
	if err := t.namespace(ctx, "topology"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, "topology", plan{components: []string{"topology"}, set: settings(endless), patches: `
- target: {kind: Job}
  patch: |-
    - {op: replace, path: /spec/completions, value: 4}
    - {op: replace, path: /spec/parallelism, value: 4}
    - {op: replace, path: /spec/template/spec/containers/0/env/0/value, value: "4"}
    - op: add
      path: /spec/template/spec/topologySpreadConstraints
      value: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: agrdist}}}]
`})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	if err := errors.Join(r.ready(ctx, 4), r.reach(ctx, 3)); err != nil {
		return err
	}
	if err := t.together(ctx, r); err != nil {
		return err
	}
	// Its successor was the last to join, and belongs with the others of its pod.
	if err := t.strike(ctx, r, "a worker of a run with zones is killed", 4, 4, 0, func() error { return r.kill(1, "worker") }); err != nil {
		return err
	}
	if err := until(ctx, "8 workers", func() bool { return len(r.members()) == 8 }); err != nil {
		return err
	}
	if err := t.together(ctx, r); err != nil {
		return err
	}
	return r.finish(ctx, 4)
}

// members are the workers of the newest generation, POD/SLOT by rank.
func (r *run) members() (out []string) {
	events, _ := r.events() // none yet
	for _, e := range events {
		if e.Event == "generation" {
			out = e.Members
		}
	}
	return out
}

// together compares what `agrdist status` says of the run with where its pods are.
func (t *test) together(ctx context.Context, r *run) error {
	want := map[string]string{}
	var first pod
	for i := range 4 {
		p, err := r.pod(i)
		if err != nil {
			return err
		}
		zone := 1 + slices.IndexFunc(nodes, func(n node) bool { return n.name == p.Spec.NodeName })
		want[fmt.Sprintf("%s-%d", r.job, i)] = fmt.Sprintf("north/north-%d/%s", zone, p.Spec.NodeName)
		if i == 0 {
			first = p
		}
	}
	text, err := t.kubectl(ctx, r.namespace, "exec", first.Metadata.Name, "--", "/agrdist", "status", "/runs/"+r.name, "--json")
	if err != nil {
		return err
	}
	var status struct {
		Workers []struct {
			Node, Topology string
			Rank           int
		}
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	var order []string // of the zones, by rank
	pods := 0
	for i, w := range status.Workers {
		if w.Rank != i || w.Topology != want[w.Node] {
			return fmt.Errorf("worker %d of %s has rank %d and is at %q, its pod at %q", i, w.Node, w.Rank, w.Topology, want[w.Node])
		}
		if i == 0 || w.Node != status.Workers[i-1].Node {
			pods++
		}
		order = append(order, w.Topology)
	}
	if len(order) != 8 || pods != 4 || len(slices.Compact(slices.Clone(order))) != 2 {
		return fmt.Errorf("ranks are not in order of place: %s", strings.Join(order, " "))
	}
	return nil
}
