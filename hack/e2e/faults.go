//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings of a run. Its model at a step does not depend on how many there are to be: the
// learning rate is constant.
func settings(steps int) map[string]string {
	return map[string]string{
		"train.steps": strconv.Itoa(steps), "train.global_batch": "16", "train.chunk": "2", "lr.schedule": "constant",
		"log.every": "1", "checkpoint.every": "50", "sample.count": "0",
	}
}

// endless is more steps than are made on any machine while faults strike.
const endless = 1000000

// reference is the digest of the same configuration on the host: one node, two workers.
func (r *run) reference(ctx context.Context) (string, error) {
	out := r.overlay + "/host"
	text, err := command(ctx, r.work+"/rootfs/agrdist", "run", "--config", r.overlay+"/config.yaml", "--out", out,
		"--set", "cluster.bind=127.0.0.1", "--set", "cluster.gossip_port=0", "--set", "cluster.rpc_port=0", "--set", "cluster.data_port=0", "--set", "dashboard.bind=off", "--set", "checkpoint.mirror=")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if f := fields(line); len(f) == 2 && f[0] == "digest" {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("no digest in: %s", text)
}

// twoRuns is a first run and a second one beside it, undisturbed, in one namespace.
func twoRuns(ctx context.Context, t *test) error {
	if err := t.namespace(ctx, "two"); err != nil {
		return err
	}
	first, err := t.newRun(ctx, "two", plan{set: settings(40)})
	if err != nil {
		return err
	}
	second, err := t.newRun(ctx, "two", plan{suffix: "-second", set: settings(30)})
	if err != nil {
		return err
	}
	for _, r := range []*run{first, second} {
		if err := r.apply(ctx); err != nil {
			return err
		}
	}
	for _, r := range []*run{first, second} {
		j, err := r.complete(ctx)
		if err != nil {
			return err
		}
		if j.Status.Succeeded != 3 || j.Status.Failed != 0 {
			return fmt.Errorf("%s: %+v", r.job, j.Status)
		}
		want, err := r.reference(ctx)
		if err != nil {
			return err
		}
		if err := r.digest(want); err != nil {
			return err
		}
	}
	return nil
}

// badConfiguration fails the Job at once, with the reason in the log.
func badConfiguration(ctx context.Context, t *test) error {
	if err := t.namespace(ctx, "bad"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, "bad", plan{set: map[string]string{"train.steps": "0"}})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := r.apply(ctx); err != nil {
		return err
	}
	j, err := r.complete(ctx)
	if err == nil {
		return errors.New("a configuration that cannot work was Complete")
	}
	if took := time.Since(began); took > time.Minute || len(j.Status.Conditions) == 0 {
		return fmt.Errorf("failed only after %s: %w", took, err)
	}
	all, err := t.pods(r.namespace, r.job)
	if err != nil {
		return err
	}
	for _, p := range all {
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Terminated == nil {
			continue // the others are ended before they began
		}
		if code := p.Status.ContainerStatuses[0].State.Terminated.ExitCode; code != 42 {
			return fmt.Errorf("%s ended with %d", p.Metadata.Name, code)
		}
		log, err := r.logs(ctx, p)
		if err != nil {
			return err
		}
		if !strings.Contains(log, "train.steps is 0") {
			return fmt.Errorf("the log does not say why: %s", log)
		}
		return nil
	}
	return errors.New("no pod has ended")
}

// strike does something to a run of some pods that has made some steps, waits until as
// many as there should be then are ready and it has trained on, and notes what that cost.
// What the Job controller makes of it is read when it has made up its mind: blame is how
// many failures it must have counted.
func (t *test) strike(ctx context.Context, r *run, fault string, pods, then, blame int, do func() error) error {
	if err := r.ready(ctx, pods); err != nil {
		return err
	}
	if err := r.reach(ctx, r.step()+5); err != nil {
		return err
	}
	before, err := r.settled(ctx, pods)
	if err != nil {
		return err
	}
	at := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", fault, err)
	}
	if err := errors.Join(r.reach(ctx, r.step()+5), r.ready(ctx, then), r.reach(ctx, r.step()+5)); err != nil {
		return fmt.Errorf("after %s: %w", fault, err)
	}
	after, err := r.settled(ctx, then)
	if err != nil {
		return fmt.Errorf("after %s: %w", fault, err)
	}
	d, err := r.since(at)
	if err != nil {
		return err
	}
	c := after.since(before)
	t.table = append(t.table, row{fault, d.standstill, d.again, c})
	fmt.Fprintf(os.Stdout, "     %s: at step %d after %.1f s; standstill %.1f s, %d steps again, %d failures counted, %d ignored\n",
		fault, r.step(), time.Since(at).Seconds(), d.standstill.Seconds(), d.again, c.counted, c.ignored)
	if c.counted != blame {
		return fmt.Errorf("%s: the Job controller counted %d failures, not %d", fault, c.counted, blame)
	}
	return nil
}

// counts are failures that the Job controller saw: those that its limits are about, and
// those that podFailurePolicy ignores.
type counts struct {
	uid              string // of the Job
	counted, ignored int
}

func (c counts) since(before counts) counts {
	if c.uid != before.uid { // another Job, with counts of its own
		return c
	}
	c.counted, c.ignored = c.counted-before.counted, max(0, c.ignored-before.ignored)
	return c
}

// settled waits until the Job controller has counted all that happened to a run of n
// pods: n are active, no pod is on its way out, and none that has ended waits to be
// counted. Failures of an index are in the annotations of its newest pod, too; the two
// records must agree.
func (r *run) settled(ctx context.Context, n int) (c counts, err error) {
	err = until(ctx, fmt.Sprintf("the Job controller to have counted for %d pods of %s", n, r.job), func() bool {
		j, err := r.status()
		if err != nil || j.Status.Active != n || j.Status.Terminating != 0 || len(j.Status.UncountedTerminatedPods.Failed) > 0 {
			return false
		}
		all, err := r.pods(r.namespace, r.job)
		if err != nil {
			return false
		}
		c = counts{uid: j.Metadata.UID, counted: j.Status.Failed}
		byIndex := 0
		for _, p := range all {
			if p.Status.Phase != "Running" && slices.Contains(p.Metadata.Finalizers, "batch.kubernetes.io/job-tracking") {
				return false
			}
			if p.Status.Phase == "Running" && p.Metadata.DeletionTimestamp == nil {
				byIndex += number(p.Metadata.Annotations["batch.kubernetes.io/job-index-failure-count"])
				c.ignored += number(p.Metadata.Annotations["batch.kubernetes.io/job-index-ignored-failure-count"])
			}
		}
		return byIndex == c.counted
	})
	return c, err
}

// number is 0 where there is none.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// faults strikes one run again and again.
func faults(ctx context.Context, t *test) error {
	if err := t.namespace(ctx, "faults"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, "faults", plan{set: settings(endless)})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		blame int
		do    func() error
	}{
		{"a worker is killed", 0, func() error { return r.kill(1, "worker") }},
		// SIGKILL without a disruption: out of memory looks the same, and must not repeat for ever.
		{"the agent of pod 0 is killed", 1, func() error { return r.kill(0, "run") }},
		{"pod 1 is deleted", 0, func() error { return r.deletePod(ctx, 1) }},
		{"the Job is deleted and applied again", 0, func() error { return errors.Join(r.deleteJob(ctx, "background"), r.apply(ctx)) }},
	} {
		if err := t.strike(ctx, r, f.name, 3, 3, f.blame, f.do); err != nil {
			return err
		}
	}
	return r.finish(ctx, 3)
}

// deleteJob deletes the Job; cascade says whether its pods are waited for.
func (r *run) deleteJob(ctx context.Context, cascade string) error {
	_, err := r.kubectl(ctx, r.namespace, "delete", "job", r.job, "--timeout=120s", "--cascade="+cascade)
	return err
}

func (r *run) deletePod(ctx context.Context, index int) error {
	p, err := r.pod(index)
	if err != nil {
		return err
	}
	_, err = r.kubectl(ctx, r.namespace, "delete", "pod", p.Metadata.Name, "--timeout=60s")
	return err
}
