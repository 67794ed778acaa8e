//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// What the test reads of the cluster's objects.
type (
	condition struct{ Type, Status, Reason, Message string }
	meta      struct {
		Name, Namespace, UID string
		Annotations          map[string]string
		Finalizers           []string
		DeletionTimestamp    *time.Time
	}
	pod struct {
		Metadata meta
		Spec     struct{ NodeName string }
		Status   struct {
			Phase             string
			Conditions        []condition
			ContainerStatuses []struct {
				State struct{ Terminated *struct{ ExitCode int } }
			}
		}
	}
	job struct {
		Metadata meta
		Status   struct {
			Active, Ready, Succeeded, Failed int
			FailedIndexes, CompletedIndexes  string
			Terminating                      int
			UncountedTerminatedPods          struct{ Succeeded, Failed []string }
			Conditions                       []condition
		}
	}
)

// is tells whether a condition holds.
func is(all []condition, kind string) bool {
	for _, c := range all {
		if c.Type == kind {
			return c.Status == "True"
		}
	}
	return false
}

func fields(s string) []string { return strings.Fields(s) }

// do asks the API server; into may be nil.
func (c *cluster) do(method, path, contentType string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(context.Background(), method, server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	answer, err := c.api.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

func (c *cluster) get(path string, into any) error { return c.do(http.MethodGet, path, "", nil, into) }

// patch merges into an object.
func (c *cluster) patch(path, merge string) error {
	return c.do(http.MethodPatch, path, "application/merge-patch+json", []byte(merge), nil)
}

// kubectl is what a user types; namespace may be empty.
func (c *cluster) kubectl(ctx context.Context, namespace string, args ...string) (string, error) {
	all := []string{filepath.Join(c.kube, "kubectl"), "--kubeconfig", filepath.Join(c.state, "admin.kubeconfig")}
	if namespace != "" {
		all = append(all, "-n", namespace)
	}
	return command(ctx, append(all, args...)...)
}

// apply sends manifests in YAML.
func (c *cluster) apply(ctx context.Context, namespace, yaml string) error {
	file := filepath.Join(c.state, "apply.yaml")
	if err := writeFile(file, yaml); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, namespace, "apply", "-f", file)
	return err
}

// pods lists the pods of a Job that are not about to go.
func (c *cluster) pods(namespace, job string) ([]pod, error) {
	var list struct{ Items []pod }
	err := c.get("/api/v1/namespaces/"+namespace+"/pods?labelSelector=batch.kubernetes.io/job-name%3D"+job, &list)
	return list.Items, err
}
