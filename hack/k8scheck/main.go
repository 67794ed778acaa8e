// Command k8scheck reads rendered manifests of one run from standard input and checks
// what schemas cannot: that selectors select this run's pods and no other run's, that
// names refer to what is there, and that DNS is reachable through the policy.
package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

func main() {
	docs, err := read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	faults := check(docs)
	for _, f := range faults {
		fmt.Fprintln(os.Stderr, "fault: "+f)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
}

// object is a decoded manifest.
type object map[string]any

func read(in io.Reader) ([]object, error) {
	var out []object
	for d := yaml.NewDecoder(in); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("k8scheck: %w", err)
		}
		if o != nil {
			out = append(out, o)
		}
	}
}

// at walks maps and lists; nil where the path ends early.
func at(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m := mapping(v)
			if m == nil {
				return nil
			}
			v = m[key]
		case int:
			l, ok := v.([]any)
			if !ok || key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// mapping is v as a map; nil where it is none. YAML nests the type that it decodes into.
func mapping(v any) map[string]any {
	switch m := v.(type) {
	case object:
		return m
	case map[string]any:
		return m
	}
	return nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func kind(docs []object, k string) (out []object) {
	for _, d := range docs {
		if text(d["kind"]) == k {
			out = append(out, d)
		}
	}
	return out
}

func name(o object) string { return text(at(o, "metadata", "name")) }

// selects evaluates a label selector; nil selects nothing, {} everything.
func selects(selector any, labels map[string]string) bool {
	s := mapping(selector)
	if s == nil {
		return false
	}
	for k, v := range mapping(s["matchLabels"]) {
		if labels[k] != text(v) {
			return false
		}
	}
	for _, e := range list(s["matchExpressions"]) {
		have := labels[text(at(e, "key"))]
		var values []string
		for _, v := range list(at(e, "values")) {
			values = append(values, text(v))
		}
		if text(at(e, "operator")) != "In" || !slices.Contains(values, have) {
			return false
		}
	}
	return true
}

// check returns every fault of a run's manifests.
func check(docs []object) (faults []string) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	jobs := kind(docs, "Job")
	if len(jobs) != 1 {
		return []string{fmt.Sprintf("%d Jobs; a run has one", len(jobs))}
	}
	job := jobs[0]
	own := map[string]string{}
	for k, v := range mapping(at(job, "spec", "template", "metadata", "labels")) {
		own[k] = text(v)
	}
	if own["app.kubernetes.io/instance"] == "" {
		bad("pods have no label app.kubernetes.io/instance")
	}
	other := map[string]string{}
	maps.Copy(other, own)
	other["app.kubernetes.io/instance"] = "another-run"
	selector := func(what string, s any) {
		if !selects(s, own) {
			bad("%s does not select the run's own pods", what)
		}
		if selects(s, other) {
			bad("%s selects the pods of other runs too", what)
		}
	}

	services := kind(docs, "Service")
	for _, s := range services {
		selector("Service "+name(s), map[string]any{"matchLabels": at(s, "spec", "selector")})
	}
	if sub := text(at(job, "spec", "template", "spec", "subdomain")); len(services) != 1 || sub != name(services[0]) {
		bad("subdomain %q is not the name of the Service: pods get no DNS names", sub)
	}
	for _, b := range kind(docs, "PodDisruptionBudget") {
		selector("PodDisruptionBudget "+name(b), at(b, "spec", "selector"))
		if keep, ok := at(b, "spec", "minAvailable").(int); !ok || fmt.Sprint(keep+1) != fmt.Sprint(at(job, "spec", "completions")) {
			bad("PodDisruptionBudget %s must have minAvailable, a number one less than the Job's pods: for a Job anything else blocks a drain", name(b))
		}
	}
	for _, p := range kind(docs, "NetworkPolicy") {
		checkPolicy(p, selector, bad)
	}
	checkReferences(docs, job, bad)
	return faults
}

func checkPolicy(p object, selector func(string, any), bad func(string, ...any)) {
	selector("NetworkPolicy "+name(p), at(p, "spec", "podSelector"))
	inside := false
	for i, r := range list(at(p, "spec", "ingress")) {
		for _, from := range list(at(r, "from")) {
			if at(from, "podSelector") == nil && at(from, "namespaceSelector") != nil {
				continue // another namespace, as the monitoring's
			}
			selector(fmt.Sprintf("NetworkPolicy %s, ingress %d", name(p), i), at(from, "podSelector"))
			inside = true
		}
	}
	if !inside {
		bad("NetworkPolicy %s lets no pod in: the nodes of the run cannot talk", name(p))
	}
	dns := map[string]bool{"kube-dns": false, "169.254.20.10/32": false}
	for _, r := range list(at(p, "spec", "egress")) {
		port53 := false
		for _, port := range list(at(r, "ports")) {
			port53 = port53 || fmt.Sprint(at(port, "port")) == "53"
		}
		for _, to := range list(at(r, "to")) {
			switch {
			case !port53 && at(to, "podSelector") != nil:
				selector("NetworkPolicy "+name(p)+", egress", at(to, "podSelector"))
			case port53 && text(at(to, "ipBlock", "cidr")) != "":
				dns[text(at(to, "ipBlock", "cidr"))] = true
			case port53 && selects(at(to, "podSelector"), map[string]string{"k8s-app": "kube-dns"}) &&
				selects(at(to, "namespaceSelector"), map[string]string{"kubernetes.io/metadata.name": "kube-system"}):
				dns["kube-dns"] = true
			}
		}
	}
	for what, reachable := range dns {
		if !reachable {
			bad("NetworkPolicy %s does not let the pods reach DNS at %s", name(p), what)
		}
	}
}

// checkReferences follows the names that the Job's pods use.
func checkReferences(docs []object, job object, bad func(string, ...any)) {
	have := func(k, n string) bool {
		return slices.ContainsFunc(kind(docs, k), func(o object) bool { return name(o) == n })
	}
	pod := at(job, "spec", "template", "spec")
	for _, v := range list(at(pod, "volumes")) {
		if n := text(at(v, "configMap", "name")); n != "" && !have("ConfigMap", n) {
			bad("the volume %s is of ConfigMap %s, which is not there", text(at(v, "name")), n)
		}
		if n := text(at(v, "persistentVolumeClaim", "claimName")); n != "" && !have("PersistentVolumeClaim", n) {
			bad("the volume %s is of claim %s, which is not there", text(at(v, "name")), n)
		}
	}
	if n := text(at(pod, "serviceAccountName")); n != "" && !have("ServiceAccount", n) {
		bad("service account %s is not there", n)
	}
	env := map[string]string{}
	for _, e := range list(at(pod, "containers", 0, "env")) {
		env[text(at(e, "name"))] = text(at(e, "value"))
	}
	if !have("Service", env["SERVICE_NAME"]) {
		bad("SERVICE_NAME is %q, which is no Service: the nodes do not find the first one", env["SERVICE_NAME"])
	}
	if nodes, n := env["AGRDIST_CLUSTER_NODES"], at(job, "spec", "completions"); !fits(nodes, n) {
		bad("AGRDIST_CLUSTER_NODES is %s and the Job has %v pods", nodes, n)
	}
	checkGrace(docs, pod, bad)
	if at(job, "spec", "completions") != at(job, "spec", "parallelism") {
		bad("completions and parallelism differ: the run would wait for pods that do not start")
	}
	image := text(at(pod, "containers", 0, "image"))
	if _, tag, ok := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":"); !ok || strings.HasPrefix(tag, "latest") {
		bad("image %s has no fixed tag: pods of one run could start different versions", image)
	}
	exits := map[string]string{}
	for _, r := range list(at(job, "spec", "podFailurePolicy", "rules")) {
		if text(at(r, "onExitCodes", "operator")) == "In" {
			for _, c := range list(at(r, "onExitCodes", "values")) {
				exits[fmt.Sprint(c)] = text(at(r, "action"))
			}
		}
	}
	if exits["42"] != "FailJob" || exits["143"] != "Ignore" {
		bad("exit code 42 must fail the Job and 143 must not count; they are %v", exits)
	}
}

// fits tells whether a Job with n pods can hold the nodes, N or MIN:MAX.
func fits(nodes string, n any) bool {
	lo, hi, elastic := strings.Cut(nodes, ":")
	if !elastic {
		hi = lo
	}
	a, err1 := strconv.Atoi(lo)
	b, err2 := strconv.Atoi(hi)
	have, ok := n.(int)
	return err1 == nil && err2 == nil && ok && a <= have && have <= b
}

// stopTime is how long the ranks may take to save and leave (cluster.Config.StopTimeout).
const stopTime = 2 * time.Minute

// checkGrace compares the time that a pod is given with what a stop may take. On spot
// nodes the cloud decides, and a pod that leaves takes seconds.
func checkGrace(docs []object, pod any, bad func(string, ...any)) {
	for _, t := range list(at(pod, "tolerations")) {
		if strings.Contains(text(at(t, "key")), "spot") {
			return
		}
	}
	grace, _ := at(pod, "terminationGracePeriodSeconds").(int)
	for _, c := range kind(docs, "ConfigMap") {
		var run struct {
			Checkpoint struct {
				FullDiskWait string `yaml:"full_disk_wait"`
			}
		}
		if err := yaml.Unmarshal([]byte(text(at(c, "data", "config.yaml"))), &run); err != nil {
			bad("config.yaml of ConfigMap %s: %v", name(c), err)
			continue
		}
		wait, err := time.ParseDuration(run.Checkpoint.FullDiskWait)
		if err != nil {
			bad("ConfigMap %s: checkpoint.full_disk_wait is %q; its default is longer than a pod's grace period", name(c), run.Checkpoint.FullDiskWait)
			continue
		}
		if need := stopTime + wait; time.Duration(grace)*time.Second < need {
			bad("terminationGracePeriodSeconds is %d; a stop may take %s, and then SIGKILL comes before the checkpoint", grace, need)
		}
	}
}
