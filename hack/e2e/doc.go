//go:build linux

// Command e2e applies deploy/k8s to a real Kubernetes and breaks things: control plane,
// two nodes (kubelet and containerd), DNS. Its one idea: the model's digest after each
// fault is that of an undisturbed run on the host, and the cluster's own records (Job
// status, exit codes, events.jsonl) say the rest: who was blamed, how long training stood
// still, how many steps were done again. It is started by hack/e2e-k8s.sh, inside
// namespaces of its own; by itself it does nothing useful.
package main
