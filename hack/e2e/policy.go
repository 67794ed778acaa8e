//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// networkPolicy has kube-router enforce the rendered NetworkPolicy on the first node. The
// run must work under it; a stranger in its namespace and one in another must not reach
// its pods; whoever has the run's labels must reach DNS and nothing else.
func networkPolicy(ctx context.Context, t *test) error {
	const namespace = "policy"
	if err := t.namespace(ctx, namespace); err != nil {
		return err
	}
	if err := t.apply(ctx, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: elsewhere}\n"); err != nil {
		return err
	}
	r, err := t.newRun(ctx, namespace, plan{set: settings(endless), patches: `
- target: {kind: Job}
  patch: |-
    - {op: add, path: /spec/template/spec/nodeSelector, value: {kubernetes.io/hostname: node-a}}
`})
	if err != nil {
		return err
	}
	if err := r.apply(ctx); err != nil {
		return err
	}
	if err := r.ready(ctx, 3); err != nil {
		return err
	}
	run, err := t.address(ctx, namespace, r.job+"-1")
	if err != nil {
		return err
	}
	ports := []string{run + ":7946", run + ":7950", run + ":8081"} // gossip, gradients, page
	// Who listens elsewhere, and a DNS server as a cluster has it.
	for _, p := range []tool{
		{"kube-system", "dns", "node-b", "k8s-app: kube-dns", []string{"listen", "53"}},
		{"elsewhere", "server", "node-b", "app: server", []string{"listen", "5000"}},
	} {
		if err := t.startTool(ctx, p); err != nil {
			return err
		}
	}
	dns, err := t.address(ctx, "kube-system", "dns")
	if err != nil {
		return err
	}
	server, err := t.address(ctx, "elsewhere", "server")
	if err != nil {
		return err
	}
	lookup := r.job + "-1." + r.job + "." + namespace + ".svc.cluster.local:7946"
	outside := []string{server + ":5000", serverAddr + ":6443"}
	own := "app.kubernetes.io/name: agrdist, app.kubernetes.io/instance: digits"
	probes := []struct {
		tool
		open, closed []string // under the policy; without it all are open
	}{
		{tool{namespace, "neighbour", "node-a", "app.kubernetes.io/name: agrdist, app.kubernetes.io/instance: other", nil}, nil, ports},
		{tool{"elsewhere", "stranger", "node-b", own, nil}, nil, ports}, // the labels alone are no right
		{tool{namespace, "member", "node-a", own, nil}, append([]string{lookup, dns + ":53"}, ports...), outside},
	}
	for i := range probes {
		p := &probes[i]
		p.args = append([]string{"dial"}, append(slices.Clone(p.open), p.closed...)...)
		if err := t.startTool(ctx, p.tool); err != nil {
			return err
		}
	}
	for _, p := range probes { // else what is closed later proves nothing
		for _, a := range append(slices.Clone(p.open), p.closed...) {
			if err := t.expect(ctx, p.tool, a, "open"); err != nil {
				return fmt.Errorf("before the policy is enforced: %w", err)
			}
		}
	}
	if err := t.enforce(); err != nil {
		return err
	}
	for _, p := range probes {
		for _, a := range p.closed {
			if err := t.expect(ctx, p.tool, a, "closed"); err != nil {
				return err
			}
		}
	}
	for _, p := range probes {
		for _, a := range p.open {
			if err := t.expect(ctx, p.tool, a, "open"); err != nil {
				return err
			}
		}
	}
	for _, p := range probes { // they have the run's labels, and should not count for its Service
		if _, err := t.kubectl(ctx, p.namespace, "delete", "pod", p.name, "--grace-period=0", "--force"); err != nil {
			return err
		}
	}
	if err := r.reach(ctx, r.step()+5); err != nil { // connections from before
		return err
	}
	return r.finish(ctx, 3) // new ones, from the start to the digest
}

// enforce starts kube-router's policy controller for the first node.
func (t *test) enforce() error {
	// Pods of a node are on one bridge.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644); err != nil {
		return err
	}
	return t.process("kube-router", filepath.Join(os.Getenv("E2E_KUBEROUTER"), "kube-router"),
		"--kubeconfig", filepath.Join(t.state, "admin.kubeconfig"), "--hostname-override", nodes[0].name,
		"--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false", "--run-firewall=true",
		"--service-cluster-ip-range", "10.96.0.0/16", "--enable-ipv6=false", "--metrics-port=0", "--health-port=0", "--iptables-sync-period=5s")
}

// tool is a pod with the program of hack/e2e/pause.
type tool struct {
	namespace, name, node, labels string
	args                          []string
}

// startTool starts one, and waits until it runs.
func (t *test) startTool(ctx context.Context, p tool) error {
	if err := t.apply(ctx, "", fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {%s}}
spec:
  nodeSelector: {kubernetes.io/hostname: %s}
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}, sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]}
  containers:
  - name: tool
    image: registry.k8s.io/pause:3.10
    command: [/pause, "%s"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    resources: {requests: {cpu: 10m}}
`, p.name, p.namespace, p.labels, p.node, strings.Join(p.args, `", "`))); err != nil {
		return err
	}
	_, err := t.address(ctx, p.namespace, p.name)
	return err
}

// address is the IP address of a pod, when it runs; the name of a pod of a Job has a
// random end.
func (t *test) address(ctx context.Context, namespace, name string) (ip string, err error) {
	err = until(ctx, "pod "+name, func() bool {
		out, err := t.kubectl(ctx, namespace, "get", "pods", "-o", `jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name}{" "}{.status.podIP}{"\n"}{end}`)
		if err != nil {
			return false
		}
		for line := range strings.Lines(out) {
			if f := fields(line); len(f) == 2 && (f[0] == name || strings.HasPrefix(f[0], name+"-")) {
				ip = f[1]
				return true
			}
		}
		return false
	})
	return ip, err
}

// expect waits until a pod finds an address open, or closed, three times in a row.
func (t *test) expect(ctx context.Context, p tool, addr, want string) error {
	last := ""
	err := until(ctx, fmt.Sprintf("%s/%s to find %s %s", p.namespace, p.name, addr, want), func() bool {
		out, err := t.kubectl(ctx, p.namespace, "logs", p.name, "--tail=40")
		if err != nil {
			return false
		}
		row := 0
		for line := range strings.Lines(out) {
			f := fields(line)
			if len(f) < 2 || f[0] != addr {
				continue
			}
			last = line
			if row++; f[1] != want {
				row = 0
			}
		}
		return row >= 3
	})
	if err != nil {
		return fmt.Errorf("%w; it said last: %s", err, strings.TrimSpace(last))
	}
	return nil
}
