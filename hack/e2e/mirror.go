//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	storeAddr   = serverAddr + ":9000"
	storeBucket = "checkpoints"
	storePrefix = "runs/digits"
)

// mirror is a run without a volume: its Job is deleted, its pods and their disks with it,
// and it continues from the object store.
func mirror(ctx context.Context, t *test) error {
	const namespace = "mirror"
	if err := t.namespace(ctx, namespace); err != nil {
		return err
	}
	store, err := t.objectStore(ctx)
	if err != nil {
		return err
	}
	if _, err := t.kubectl(ctx, namespace, "create", "secret", "generic", "agrdist-s3",
		"--from-literal=AWS_ACCESS_KEY_ID=e2e", "--from-literal=AWS_SECRET_ACCESS_KEY=e2e-secret", "--from-literal=AWS_REGION=us-east-1"); err != nil {
		return err
	}
	set := settings(endless)
	set["checkpoint.every"] = "10"
	set["checkpoint.mirror"] = "s3://" + storeBucket + "/" + storePrefix + "?endpoint=http://" + storeAddr
	r, err := t.newRun(ctx, namespace, plan{components: []string{"ephemeral"}, set: set})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	if err := until(ctx, "two checkpoints in the object store", func() bool { return len(copiedSteps(store)) >= 2 }); err != nil {
		return err
	}
	// Pod 0's disk goes with it: its successor finds the others by their search for it.
	old, err := r.pod(0)
	if err != nil {
		return err
	}
	if err := r.kill(0, "run"); err != nil {
		return err
	}
	if err := until(ctx, "the successor of pod 0", func() bool {
		p, err := r.pod(0)
		return err == nil && p.Metadata.UID != old.Metadata.UID
	}); err != nil {
		return err
	}
	if err := r.ready(ctx, 3); err != nil {
		return err
	}
	before := copiedSteps(store)
	if err := until(ctx, "a checkpoint after the loss of pod 0", func() bool {
		now := copiedSteps(store)
		return now[len(now)-1] > before[len(before)-1]
	}); err != nil {
		return err
	}
	if err := r.deleteJob(ctx, "foreground"); err != nil {
		return err
	}
	steps := copiedSteps(store)
	stopped := steps[len(steps)-1]
	if stopped%10 == 0 {
		fmt.Fprintf(os.Stdout, "     the stop at step %d fell on a checkpoint of its own\n", stopped)
	}
	r.set["train.steps"] = strconv.FormatInt(stopped+10, 10)
	if err := errors.Join(r.configure(r.set), r.apply(ctx)); err != nil {
		return err
	}
	if _, err := r.complete(ctx); err != nil {
		return err
	}
	want, err := r.reference(ctx)
	if err != nil {
		return err
	}
	all, err := t.pods(r.namespace, r.job)
	if err != nil {
		return err
	}
	var resumed, digest string
	for _, p := range all {
		log, err := r.logs(ctx, p)
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			var l struct {
				Msg, Digest string
				Mirrored    *bool
			}
			if json.Unmarshal([]byte(line), &l) != nil {
				continue
			}
			if strings.Contains(l.Msg, "fetched the checkpoint of step") {
				resumed = strings.TrimPrefix(l.Msg, "agrdist: ")
			}
			if l.Digest != "" {
				digest = l.Digest
			}
			if l.Mirrored != nil && !*l.Mirrored {
				return fmt.Errorf("the last checkpoint was not copied: %s", line)
			}
		}
	}
	fmt.Fprintln(os.Stdout, "     "+resumed)
	switch {
	case !strings.Contains(resumed, fmt.Sprintf("step %d from s3://", stopped)):
		return fmt.Errorf("the run did not continue from step %d of the object store", stopped)
	case digest != want:
		return fmt.Errorf("digest %.12s, the host has %.12s", digest, want)
	}
	last := copiedSteps(store)
	if last[len(last)-1] != stopped+10 {
		return fmt.Errorf("the object store has steps %v, the run ended with %d", last, stopped+10)
	}
	return nil
}

// objectStore starts an S3 server whose buckets are directories below the one returned.
func (t *test) objectStore(ctx context.Context) (string, error) {
	data, meta := filepath.Join(t.state, "s3", "data"), filepath.Join(t.state, "s3", "meta")
	if err := errors.Join(os.MkdirAll(filepath.Join(data, storeBucket), 0o755), os.MkdirAll(meta, 0o755)); err != nil {
		return "", err
	}
	if err := t.process("s3", filepath.Join(os.Getenv("E2E_S3"), "versitygw"), "--access", "e2e", "--secret", "e2e-secret", "--port", storeAddr, "--quiet",
		"posix", "--sidecar", meta, data); err != nil {
		return "", err
	}
	return filepath.Join(data, storeBucket), until(ctx, "the object store", func() bool { return listens(storeAddr) })
}

// copiedSteps are the steps of the checkpoints that the store has whole, lowest
// first.
func copiedSteps(store string) (steps []int64) {
	found, _ := filepath.Glob(filepath.Join(store, storePrefix, "step-*", "manifest.json")) // asked again soon
	for _, f := range found {
		n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(filepath.Dir(f)), "step-"), 10, 64)
		if err == nil {
			steps = append(steps, n)
		}
	}
	slices.Sort(steps)
	return steps
}

// listens tells whether a server takes connections.
func listens(addr string) bool {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
