//go:build linux

package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Where the parts listen: the namespace belongs to this test alone.
const (
	serverAddr = "10.99.0.1"
	server     = "https://" + serverAddr + ":6443"
	dnsAddr    = "169.254.20.10" // that of NodeLocal DNSCache, which answers on every node itself
)

// cluster is Kubernetes on this machine.
type cluster struct {
	work, state, kube, repo string // directories: see hack/e2e-k8s.sh
	ca                      *authority
	api                     *http.Client
}

// process starts a part in the background; its output goes to log/NAME.log. The kernel
// ends it with the namespace.
func (c *cluster) process(name string, args ...string) error {
	out, err := os.Create(filepath.Join(c.work, "log", name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the process has its own descriptor
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		if err := cmd.Wait(); err != nil && !closing.Load() {
			fmt.Fprintf(os.Stderr, "e2e: %s ended: %v; see its log\n", name, err)
		}
	}()
	return nil
}

// until asks ten times a second, for as long as the context lasts.
func until(ctx context.Context, what string, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// start brings the control plane up, and returns when its parts work.
func (c *cluster) start(ctx context.Context) error {
	if err := c.certificates(); err != nil {
		return err
	}
	d := c.state + "/"
	part := func(name string) string { return filepath.Join(c.kube, name) }
	if err := c.process("etcd", part("etcd"), "--data-dir", d+"etcd", "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380"); err != nil {
		return err
	}
	if err := c.process("kube-apiserver", part("kube-apiserver"), "--etcd-servers", "http://127.0.0.1:2379",
		"--bind-address", "0.0.0.0", "--advertise-address", serverAddr, "--secure-port", "6443",
		"--tls-cert-file", d+"apiserver.crt", "--tls-private-key-file", d+"apiserver.key", "--client-ca-file", d+"ca.crt",
		"--kubelet-client-certificate", d+"apiserver.crt", "--kubelet-client-key", d+"apiserver.key", "--kubelet-certificate-authority", d+"ca.crt", "--kubelet-preferred-address-types", "InternalIP",
		"--service-account-key-file", d+"sa.key", "--service-account-signing-key-file", d+"sa.key", "--service-account-issuer", "https://kubernetes.default.svc",
		"--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged=true",
		"--feature-gates", "PodTopologyLabelsAdmission=true"); err != nil {
		return err
	}
	if err := until(ctx, "the API server", func() bool { return c.get("/readyz", nil) == nil }); err != nil {
		return err
	}
	login := func(name string) []string {
		k := d + name + ".kubeconfig"
		return []string{"--kubeconfig", k, "--authentication-kubeconfig", k, "--authorization-kubeconfig", k, "--leader-elect=false", "--bind-address", "127.0.0.1"}
	}
	if err := c.process("kube-controller-manager", append([]string{
		part("kube-controller-manager"),
		"--use-service-account-credentials", "--service-account-private-key-file", d + "sa.key", "--root-ca-file", d + "ca.crt",
		"--cluster-signing-cert-file", d + "ca.crt", "--cluster-signing-key-file", d + "ca.key",
	}, login("kube-controller-manager")...)...); err != nil {
		return err
	}
	if err := c.process("kube-scheduler", append([]string{part("kube-scheduler")}, login("kube-scheduler")...)...); err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, "", "create", "clusterrolebinding", "kubelet-api", "--clusterrole", "system:kubelet-api-admin", "--user", "kube-apiserver"); err != nil {
		return err
	}
	return until(ctx, "the controllers", func() bool { return c.get("/api/v1/namespaces/default/serviceaccounts/default", nil) == nil })
}

func (c *cluster) certificates() (err error) {
	if c.ca, err = newAuthority(c.state); err != nil {
		return err
	}
	for name, subject := range map[string]pkix.Name{
		"apiserver":               {CommonName: "kube-apiserver"},
		"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
		"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
		"kube-scheduler":          {CommonName: "system:kube-scheduler"},
	} {
		err := errors.Join(
			c.ca.issue(name, subject, "localhost", "kubernetes.default.svc", "127.0.0.1", serverAddr, "10.96.0.1"),
			c.ca.kubeconfig(name, server))
		if err != nil {
			return err
		}
	}
	tls, err := c.ca.client("admin")
	if err != nil {
		return err
	}
	c.api = &http.Client{Transport: &http.Transport{TLSClientConfig: tls}, Timeout: 20 * time.Second}
	return nil
}

// dns starts CoreDNS on a link-local address, where every kubelet points its pods.
func (c *cluster) dns(ctx context.Context) error {
	corefile := filepath.Join(c.state, "Corefile")
	if err := fill("Corefile", corefile, place{State: c.state, DNS: dnsAddr}); err != nil {
		return err
	}
	if err := c.process("coredns", filepath.Join(c.kube, "coredns"), "-conf", corefile); err != nil {
		return err
	}
	return until(ctx, "DNS", func() bool {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8181/ready", http.NoBody)
		if err != nil {
			return false
		}
		r, err := http.DefaultClient.Do(q)
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// command runs a program to its end and returns what it printed.
func command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
