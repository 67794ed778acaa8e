//go:build linux

package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// node is a real one: a containerd, a kubelet, a bridge for its pods.
type node struct {
	name, addr string
	number     int
}

// Two nodes are enough for a drain to have somewhere to go.
var nodes = []node{{"node-a", "10.99.0.1", 0}, {"node-b", "10.99.0.2", 1}}

func (n node) socket() string { return "/run/" + n.name + "/containerd.sock" }

// join starts a node, hands it the images and waits until it is ready.
func (c *cluster) join(ctx context.Context, n node, images []string) error {
	dir := filepath.Join(c.state, n.name)
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "cni"), 0o755), os.MkdirAll(filepath.Join(dir, "manifests"), 0o755),
		os.MkdirAll("/var/log/"+n.name, 0o755), c.containerd(n, dir)); err != nil {
		return err
	}
	ctr := []string{"ctr", "--address", n.socket(), "-n", "k8s.io"}
	if err := until(ctx, "containerd", func() bool {
		_, err := command(ctx, append(ctr, "version")...)
		return err == nil
	}); err != nil {
		return err
	}
	for _, image := range images {
		if _, err := command(ctx, append(ctr, "images", "import", image)...); err != nil {
			return err
		}
	}
	if err := c.kubelet(n, dir); err != nil {
		return err
	}
	return until(ctx, n.name, func() bool {
		var o struct {
			Status struct{ Conditions []condition }
		}
		return c.get("/api/v1/nodes/"+n.name, &o) == nil && is(o.Status.Conditions, "Ready")
	})
}

func (c *cluster) containerd(n node, dir string) error {
	// Without CAP_SYS_RESOURCE runc may not lower oom_score_adj.
	config := fmt.Sprintf(`version = 2
root = %[1]q
state = "/run/%[2]s/containerd"
[grpc]
  address = %[3]q
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "registry.k8s.io/pause:3.10"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[4]q
    conf_dir = %[5]q
[plugins."io.containerd.internal.v1.opt"]
  path = "/opt/%[2]s"
`, filepath.Join(dir, "containerd"), n.name, n.socket(), filepath.Join(os.Getenv("E2E_DEBS"), "usr/lib/cni"), filepath.Join(dir, "cni"))
	// No masquerading: a pod keeps its address wherever it talks to.
	network := fmt.Sprintf(`{"cniVersion":"0.4.0","name":%[1]q,"plugins":[
 {"type":"bridge","bridge":"cni%[2]d","isGateway":true,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":%[3]q,"ranges":[[{"subnet":"10.244.%[2]d.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}
`, n.name, n.number, filepath.Join(dir, "addresses"))
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "containerd.toml"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(dir, "cni", "10-bridge.conflist"), []byte(network), 0o644)); err != nil {
		return err
	}
	return c.process("containerd-"+n.name, "containerd", "--config", filepath.Join(dir, "containerd.toml"))
}

func (c *cluster) kubelet(n node, dir string) error {
	if err := errors.Join(
		c.ca.issue(n.name, pkix.Name{CommonName: "system:node:" + n.name, Organization: []string{"system:nodes"}}, n.name, n.addr),
		c.ca.kubeconfig(n.name, server),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+serverAddr+"\n"), 0o644)); err != nil {
		return err
	}
	group := "/" + n.name // each kubelet sweeps what it finds under its own
	if err := makeGroup(group); err != nil {
		return err
	}
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
healthzPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[2]s/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: %[2]s/%[3]s.crt
tlsPrivateKeyFile: %[2]s/%[3]s.key
cgroupDriver: cgroupfs
cgroupRoot: %[4]s
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://%[5]s
clusterDNS: [%[6]s]
clusterDomain: cluster.local
resolvConf: %[7]s/resolv.conf
volumePluginDir: %[7]s/volplugins
podLogsDir: /var/log/%[3]s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi", nodefs.available: "1%%"}
oomScoreAdj: 0
nodeStatusUpdateFrequency: 5s
`, n.addr, c.state, n.name, group, n.socket(), serverAddr, dir)
	file := filepath.Join(dir, "kubelet.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	return c.process("kubelet-"+n.name, filepath.Join(c.kube, "kubelet"), "--config", file,
		"--kubeconfig", filepath.Join(c.state, n.name+".kubeconfig"), "--hostname-override", n.name, "--node-ip", n.addr,
		"--root-dir", filepath.Join(dir, "kubelet"), "--cert-dir", filepath.Join(dir, "pki"), "--v", "2")
}

// makeGroup makes a control group in every hierarchy; the kubelet wants it there.
func makeGroup(group string) error {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		if err := os.MkdirAll(root+group, 0o755); err != nil {
			return err
		}
		have, err := os.ReadFile(root + "/cgroup.subtree_control")
		if err != nil {
			return err
		}
		var on []byte
		for _, f := range fields(string(have)) {
			on = append(on, (" +" + f)...)
		}
		return os.WriteFile(root+group+"/cgroup.subtree_control", on, 0o644)
	}
	each, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range each {
		if err := os.MkdirAll(filepath.Join(root, e.Name())+group, 0o755); err != nil {
			return err
		}
	}
	// A new cpuset has no processors, and so could hold no process.
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(root, "cpuset", f))
		if err != nil {
			continue // no such controller
		}
		if err := os.WriteFile(filepath.Join(root, "cpuset"+group, f), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
