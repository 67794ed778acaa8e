//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		"--set", "cluster.bind=127.0.0.1", "--set", "cluster.gossip_port=0", "--set", "cluster.rpc_port=0", "--set", "cluster.data_port=0", "--set", "dashboard.bind=off")
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
func (t *test) strike(ctx context.Context, r *run, fault string, pods, then int, do func() error) error {
	if err := r.ready(ctx, pods); err != nil {
		return err
	}
	if err := r.reach(ctx, r.step()+5); err != nil {
		return err
	}
	before, err := r.status()
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
	after, err := r.status()
	if err != nil {
		return err
	}
	if is(after.Status.Conditions, "Complete") {
		return fmt.Errorf("%s: the run was over before all pods were back", fault)
	}
	d, err := r.since(at)
	if err != nil {
		return err
	}
	failures := after.Status.Failed - before.Status.Failed
	if after.Metadata.UID != before.Metadata.UID { // another Job, with a count of its own
		failures = after.Status.Failed
	}
	t.table = append(t.table, row{fault, d.standstill, d.again, failures})
	fmt.Fprintf(os.Stdout, "     %s: at step %d after %.1f s; standstill %.1f s, %d steps again, %d failures counted\n",
		fault, r.step(), time.Since(at).Seconds(), d.standstill.Seconds(), d.again, failures)
	return nil
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
		name string
		do   func() error
	}{
		{"a worker is killed", func() error { return r.kill(1, "worker") }},
		{"the agent of pod 0 is killed", func() error { return r.kill(0, "run") }},
		{"pod 1 is deleted", func() error { return r.deletePod(ctx, 1) }},
		{"the Job is deleted and applied again", func() error { return errors.Join(r.deleteJob(ctx, "background"), r.apply(ctx)) }},
	} {
		if err := t.strike(ctx, r, f.name, 3, 3, f.do); err != nil {
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
