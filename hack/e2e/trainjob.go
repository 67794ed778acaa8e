//go:build linux

package main

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// trainJob applies deploy/k8s/kubeflow to the real custom resources of Kubeflow Trainer.
// Its controller and JobSet's cannot be built from modules (a proxy does not offer
// sigs.k8s.io/jobset): the Job that they would make of the runtime is made here, and the
// trainer's status server is a stand-in, whose tokens the API server itself reviews.
func trainJob(ctx context.Context, t *test) error {
	const namespace, name = "trainjob", "digits"
	if err := t.namespace(ctx, namespace); err != nil {
		return err
	}
	crds, err := filepath.Glob(filepath.Join(os.Getenv("E2E_TRAINER"), "manifests/base/crds/trainer.*.yaml"))
	if err != nil || len(crds) != 3 {
		return fmt.Errorf("the custom resources of Kubeflow Trainer are not in E2E_TRAINER: %v, %w", crds, err)
	}
	for _, f := range crds {
		if _, err := t.kubectl(ctx, "", "apply", "--server-side", "-f", f); err != nil {
			return err
		}
	}
	if _, err := t.kubectl(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return err
	}
	dir := filepath.Join(t.work, "k8s", "kubeflow")
	for _, f := range []string{"runtime.yaml", "trainjob.yaml"} {
		if _, err := t.kubectl(ctx, namespace, "apply", "-f", filepath.Join(dir, f)); err != nil {
			return err
		}
	}
	r := &run{cluster: t.cluster, namespace: namespace, job: name + "-node-0", name: name, overlay: filepath.Join(t.work, "k8s", "overlays", "trainjob")}
	if r.volume, err = t.claim(ctx, namespace, "agrdist-runs"); err != nil {
		return err
	}
	end, err := t.statusServer(namespace, name)
	if err != nil {
		return err
	}
	defer end()
	if err := t.expand(ctx, namespace, name); err != nil {
		return err
	}
	j, err := r.complete(ctx)
	if err != nil {
		return err
	}
	if j.Status.Succeeded != 3 {
		return fmt.Errorf("%+v", j.Status)
	}
	out, err := t.kubectl(ctx, namespace, "get", "trainjob", name, "-o",
		"custom-columns=NAME:.metadata.name,PROGRESS:.status.trainerStatus.progressPercentage,LEFT:.status.trainerStatus.estimatedRemainingSeconds,LOSS:.status.trainerStatus.metrics[?(@.name=='loss')].value")
	if err != nil {
		return err
	}
	fmt.Fprint(os.Stdout, "     "+strings.ReplaceAll(strings.TrimSpace(out), "\n", "\n     ")+"\n")
	if f := fields(out); len(f) != 8 || f[5] != "100" || f[6] != "0" {
		return fmt.Errorf("the TrainJob's status: %s", out)
	}
	return nil
}

// object is a decoded manifest.
type object = map[string]any

// at walks maps and lists.
func at(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, _ := v.(object)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// expand makes what the controllers of Kubeflow Trainer and JobSet would: an Indexed Job
// of the runtime's template with the TrainJob's settings, a headless Service, and the
// address of the status server.
func (t *test) expand(ctx context.Context, namespace, name string) error {
	var runtime, trainjob object
	if err := errors.Join(
		t.get("/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/agrdist", &runtime),
		t.get("/apis/trainer.kubeflow.org/v1alpha1/namespaces/"+namespace+"/trainjobs/"+name, &trainjob)); err != nil {
		return err
	}
	spec, _ := at(runtime, "spec", "template", "spec", "replicatedJobs", 0, "template", "spec").(object)
	pod, _ := at(spec, "template", "spec").(object)
	container, _ := at(pod, "containers", 0).(object)
	if container["name"] != "node" {
		return fmt.Errorf("the runtime's container is called %v", container["name"])
	}
	trainer := at(trainjob, "spec", "trainer")
	spec["completions"], spec["parallelism"] = at(trainer, "numNodes"), at(trainer, "numNodes")
	args, _ := at(trainer, "args").([]any)
	container["image"], container["args"] = at(trainer, "image"), append(args, "--set", "train.steps=60", "--set", "log.every=1")
	container["resources"] = object{"requests": object{"cpu": "100m", "memory": "200Mi"}, "limits": object{"cpu": "600m", "memory": "1Gi"}}
	env := at(container, "env").([]any)
	for _, e := range at(trainer, "env").([]any) {
		for i, old := range env {
			if at(old, "name") == at(e, "name") {
				env[i] = e
			}
		}
	}
	const dir = "/var/run/secrets/kubeflow/trainer"
	for k, v := range map[string]string{
		"KUBEFLOW_TRAINER_SERVER_URL":     "https://" + statusAddr + statusPath(namespace, name),
		"KUBEFLOW_TRAINER_SERVER_CA_CERT": dir + "/ca.crt",
		"KUBEFLOW_TRAINER_SERVER_TOKEN":   dir + "/token",
	} {
		env = append(env, object{"name": k, "value": v})
	}
	container["env"] = env
	container["volumeMounts"] = append(container["volumeMounts"].([]any), object{"name": "kubeflow-trainer-token", "mountPath": dir, "readOnly": true})
	pod["volumes"] = append(pod["volumes"].([]any), object{"name": "kubeflow-trainer-token", "projected": object{"sources": []any{
		object{"serviceAccountToken": object{"audience": audience(namespace, name), "expirationSeconds": 3600, "path": "token"}},
		object{"configMap": object{"name": name + "-tls-config", "items": []any{object{"key": "ca.crt", "path": "ca.crt"}}}},
	}}})
	pod["subdomain"] = name
	labels := object{"jobset.sigs.k8s.io/jobset-name": name}
	spec["template"].(object)["metadata"] = object{"labels": labels}
	ca, err := os.ReadFile(t.ca.path("ca.crt"))
	if err != nil {
		return err
	}
	list := object{"apiVersion": "v1", "kind": "List", "items": []object{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": name + "-tls-config"}, "data": object{"ca.crt": string(ca)}},
		{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": object{"name": "agrdist-runs"}, "spec": object{
			"accessModes": []string{"ReadWriteMany"}, "resources": object{"requests": object{"storage": "10Gi"}},
		}},
		{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name}, "spec": object{
			"clusterIP": "None", "publishNotReadyAddresses": at(runtime, "spec", "template", "spec", "network", "publishNotReadyAddresses"), "selector": labels,
		}},
		{"apiVersion": "batch/v1", "kind": "Job", "metadata": object{"name": name + "-node-0"}, "spec": spec},
	}}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return t.apply(ctx, namespace, string(text)) // JSON is YAML
}

const statusAddr = serverAddr + ":8444"

func statusPath(namespace, name string) string {
	return "/apis/trainer.kubeflow.org/v1alpha1/namespaces/" + namespace + "/trainjobs/" + name + "/status"
}

func audience(namespace, name string) string {
	return "trainer.kubeflow.org/v1alpha1/namespaces/" + namespace + "/trainjobs/" + name + "/status"
}

// statusServer stands in for the trainer's: it takes a status from a pod of the TrainJob
// and writes it to the TrainJob, which its custom resource's schema checks.
func (t *test) statusServer(namespace, name string) (end func(), err error) {
	if err := t.ca.issue("trainer", pkix.Name{CommonName: "trainer"}, serverAddr); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+statusPath(namespace, name), func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if err := t.review(token, audience(namespace, name)); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = t.patch(statusPath(namespace, name), fmt.Sprintf(`{"status":%s}`, text))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e: status server:", err)
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		}
	})
	s := &http.Server{Addr: statusAddr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.ListenAndServeTLS(t.ca.path("trainer.crt"), t.ca.path("trainer.key")) }() // until Close
	return func() { _ = s.Close() }, nil
}

// review asks the API server whether a token is good for an audience.
func (t *test) review(token, audience string) error {
	text, err := json.Marshal(object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": object{"token": token, "audiences": []string{audience}}})
	if err != nil {
		return err
	}
	var answer struct {
		Status struct {
			Authenticated bool
			Error         string
		}
	}
	if err := t.do(http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", "application/json", text, &answer); err != nil {
		return err
	}
	if !answer.Status.Authenticated {
		return fmt.Errorf("the token is refused: %s", answer.Status.Error)
	}
	return nil
}
