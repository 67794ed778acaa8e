//go:build linux

package main

import (
	"context"
	"crypto/x509/pkix"
	"embed"
	"errors"
	"os"
	"path/filepath"
	"text/template"
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

//go:embed files
var templates embed.FS

// place is what the files of a node name.
type place struct {
	State, Dir, Name, Addr, Socket, Group, Debs, DNS string
	Number                                           int
}

func (c *cluster) place(n node) place {
	return place{
		State: c.state, Dir: filepath.Join(c.state, n.name), Name: n.name, Addr: n.addr, Socket: n.socket(), Number: n.number,
		Group: "/" + n.name, // each kubelet sweeps what it finds under its own
		Debs:  os.Getenv("E2E_DEBS"), DNS: dnsAddr,
	}
}

// fill writes one of the embedded files.
func fill(name, path string, p place) error {
	t, err := template.ParseFS(templates, "files/"+name)
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(out, p), out.Close())
}

func (c *cluster) containerd(n node, dir string) error {
	if err := errors.Join(
		fill("containerd.toml", filepath.Join(dir, "containerd.toml"), c.place(n)),
		fill("bridge.conflist", filepath.Join(dir, "cni", "10-bridge.conflist"), c.place(n))); err != nil {
		return err
	}
	return c.process("containerd-"+n.name, "containerd", "--config", filepath.Join(dir, "containerd.toml"))
}

func (c *cluster) kubelet(n node, dir string) error {
	if err := errors.Join(
		c.ca.issue(n.name, pkix.Name{CommonName: "system:node:" + n.name, Organization: []string{"system:nodes"}}, n.name, n.addr),
		c.ca.kubeconfig(n.name, server),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+dnsAddr+"\n"), 0o644)); err != nil {
		return err
	}
	if err := makeGroup(c.place(n).Group); err != nil {
		return err
	}
	file := filepath.Join(dir, "kubelet.yaml")
	if err := fill("kubelet.yaml", file, c.place(n)); err != nil {
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
