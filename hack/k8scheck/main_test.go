package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const good = `
kind: Job
metadata: {name: a}
spec:
  completions: 3
  parallelism: 3
  podFailurePolicy:
    rules:
      - {action: FailJob, onExitCodes: {operator: In, values: [42]}}
      - {action: Ignore, onExitCodes: {operator: In, values: [143]}}
  template:
    metadata: {labels: {app.kubernetes.io/name: agrdist, app.kubernetes.io/instance: one}}
    spec:
      subdomain: svc
      terminationGracePeriodSeconds: 140
      containers:
        - image: registry:5000/agrdist:1.2
          env: [{name: SERVICE_NAME, value: svc}, {name: AGRDIST_CLUSTER_NODES, value: "2:3"}]
      volumes: [{name: config, configMap: {name: c}}, {name: runs, persistentVolumeClaim: {claimName: p}}]
---
kind: Service
metadata: {name: svc}
spec: {selector: {app.kubernetes.io/name: agrdist, app.kubernetes.io/instance: one}}
---
kind: PodDisruptionBudget
metadata: {name: b}
spec: {minAvailable: 2, selector: {matchLabels: {app.kubernetes.io/instance: one}}}
---
kind: NetworkPolicy
metadata: {name: n}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/instance: one}}
  ingress: [{from: [{podSelector: {matchLabels: {app.kubernetes.io/instance: one}}}]}]
  egress:
    - to:
        - namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [kube-system]}]}
          podSelector: {matchExpressions: [{key: k8s-app, operator: In, values: [kube-dns]}]}
        - ipBlock: {cidr: 169.254.20.10/32}
      ports: [{port: 53}]
---
kind: ConfigMap
metadata: {name: c}
data: {config.yaml: "checkpoint: {full_disk_wait: 20s}"}
---
kind: PersistentVolumeClaim
metadata: {name: p}
`

func faults(t *testing.T, text string) []string {
	t.Helper()
	docs, err := read(strings.NewReader(text))
	require.NoError(t, err)
	return check(docs)
}

func TestGoodManifestsHaveNoFault(t *testing.T) { require.Empty(t, faults(t, good)) }

// Each line breaks the good manifests in one way.
func TestFaultsAreFound(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"policy for all pods":         {"podSelector: {matchLabels: {app.kubernetes.io/instance: one}}\n  ingress", "podSelector: {}\n  ingress", "selects the pods of other runs too"},
		"policy of another run":       {"podSelector: {matchLabels: {app.kubernetes.io/instance: one}}\n  ingress", "podSelector: {matchLabels: {app.kubernetes.io/instance: two}}\n  ingress", "does not select the run's own pods"},
		"labels in the DNS selector":  {"values: [kube-dns]}]}", "values: [kube-dns]}], matchLabels: {app.kubernetes.io/name: agrdist}}", "reach DNS at kube-dns"},
		"no NodeLocal DNS":            {"- ipBlock: {cidr: 169.254.20.10/32}", "- ipBlock: {cidr: 10.0.0.0/8}", "DNS at 169.254.20.10/32"},
		"subdomain without a service": {"subdomain: svc", "subdomain: agrdist", "subdomain"},
		"join address":                {"{name: SERVICE_NAME, value: svc}", "{name: SERVICE_NAME, value: old}", "SERVICE_NAME"},
		"claim":                       {"claimName: p", "claimName: q", "claim q"},
		"configuration":               {"configMap: {name: c}", "configMap: {name: d}", "ConfigMap d"},
		"count of nodes":              {`value: "2:3"`, `value: "2"`, "AGRDIST_CLUSTER_NODES"},
		"too many pods":               {`value: "2:3"`, `value: "1:2"`, "AGRDIST_CLUSTER_NODES"},
		"a short grace period":        {"PeriodSeconds: 140", "PeriodSeconds: 139", "a stop may take 2m20s"},
		"the default wait":            {"full_disk_wait: 20s", "every: 5", "full_disk_wait"},
		"a drain of two pods":         {"minAvailable: 2", "minAvailable: 1", "minAvailable"},
		"a budget that Jobs have not": {"minAvailable: 2", "maxUnavailable: 1", "blocks a drain"},
		"latest":                      {"agrdist:1.2", "agrdist:latest", "no fixed tag"},
		"latest of a kind":            {"agrdist:1.2", "agrdist:latest-cuda", "no fixed tag"},
		"no tag":                      {"agrdist:1.2", "agrdist", "no fixed tag"},
		"143 counts":                  {"values: [143]", "values: [144]", "exit code 42"},
		"service of all runs":         {"spec: {selector: {app.kubernetes.io/name: agrdist, app.kubernetes.io/instance: one}}", "spec: {selector: {app.kubernetes.io/name: agrdist}}", "Service svc selects the pods of other runs"},
	} {
		broken := strings.Replace(good, c.old, c.new, 1)
		require.NotEqual(t, good, broken, name)
		require.Contains(t, strings.Join(faults(t, broken), "\n"), c.want, name)
	}
}

// The rules that the operator gets are those that promtool tests.
func TestAlertRules(t *testing.T) {
	load := func(path string) (o object) {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, yaml.Unmarshal(raw, &o))
		return o
	}
	rule := load("../../deploy/k8s/components/monitoring/prometheusrule.yaml")
	groups := at(load("../../deploy/monitoring/alerts.yaml"), "groups")
	require.NotEmpty(t, groups)
	require.Equal(t, groups, at(rule, "spec", "groups"))
}
