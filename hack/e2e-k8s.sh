#!/usr/bin/env bash
# Apply deploy/k8s to a real Kubernetes on this machine and break things: see
# docs/kubernetes.md for what is tried. Kubernetes, etcd and CoreDNS are built from the Go
# module proxy, containerd and buildah are Debian's; nothing is installed, everything runs
# in namespaces of its own and ends with this script.
#   e2e-k8s.sh --build       only build what is cached (cold: about 12 CPU minutes)
#   e2e-k8s.sh [FLAG...]     run the test; flags are those of hack/e2e (-short, -run, ...)
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD

skip() { echo "SKIP: make e2e: $1"; exit 0; }
[ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] || skip "the node's parts are Debian's for amd64"
[ "$(id -u)" = 0 ] || skip "needs root: a kubelet makes control groups and mounts"
unshare -m -n -p -u -i -C --fork --mount-proc true 2>/dev/null || skip "no permission for namespaces"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "needs apt-get and dpkg for containerd and buildah"
command -v ip >/dev/null || skip "needs ip (iproute2)"

KUBERNETES=1.34.4
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/e2e
mkdir -p "$cache"

# Kubernetes: one binary for every part, and CoreDNS. The name has all that they follow from.
build_kube() {
  local key dir flags
  key=$(cat hack/e2e/kube/go.mod hack/e2e/kube/go.sum hack/e2e/kube/cmd/*/*.go | sha256sum | cut -c1-12)
  dir=$cache/kube-$KUBERNETES-$(cd hack/e2e/kube && go env GOVERSION)-$key
  kube=$dir
  [ -e "$dir/done" ] && return
  echo "building Kubernetes $KUBERNETES and CoreDNS (once; about 12 CPU minutes)"
  flags="-s -w"
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $p.gitVersion=v$KUBERNETES -X $p.gitMajor=1 -X $p.gitMinor=34 -X $p.gitTreeState=clean"
  done
  mkdir -p "$dir"
  (cd hack/e2e/kube && CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 10 go build -trimpath -ldflags "$flags" -o "$dir/" ./cmd/kube ./cmd/coredns)
  for part in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do ln -sf kube "$dir/$part"; done
  touch "$dir/done"
}

# An S3 server, for checkpoint.mirror: the tests of checkpoint/mirror/s3 use it too.
VERSITYGW=v1.8.0
build_s3() {
  s3=$cache/s3-versitygw-$VERSITYGW
  [ -e "$s3/versitygw" ] && return
  echo "building an S3 server (once; about 2 CPU minutes)"
  (cd / && GOBIN="$s3" CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 10 go install -trimpath -ldflags "-s -w" "github.com/versity/versitygw/cmd/versitygw@$VERSITYGW")
}

# What enforces network policies.
KUBEROUTER=v2.1.0
build_kuberouter() {
  kuberouter=$cache/kube-router-$KUBEROUTER
  [ -e "$kuberouter/kube-router" ] && return
  echo "building kube-router (once; about 3 CPU minutes)"
  (cd / && GOBIN="$kuberouter" CGO_ENABLED=0 GOFLAGS=-buildvcs=false nice -n 10 go install -trimpath -ldflags "-s -w" "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@$KUBEROUTER")
}

# Debian's packages are unpacked, not installed.
fetch_packages() {
  local packages="containerd runc containernetworking-plugins iptables ipset buildah" release
  release=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
  debs=$cache/debs-$release-$(echo "$packages" | sha256sum | cut -c1-8)
  [ -e "$debs/done" ] && return
  rm -rf "$debs" && mkdir -p "$debs/archives/partial" "$debs/root"
  # shellcheck disable=SC2086 # one word a package
  download() { apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$debs/archives" --reinstall $packages >/dev/null; }
  download || { apt-get update -qq && download; }
  for d in "$debs"/archives/*.deb; do dpkg -x "$d" "$debs/root"; done
  rm -r "$debs/archives"
  touch "$debs/done"
}

exec 9>"$cache/lock"
flock 9 # a build in the background may be under way
build_kube
build_s3
build_kuberouter
fetch_packages
flock -u 9
[ "${1:-}" != --build ] || exit 0

work=$(mktemp -d "${TMPDIR:-/tmp}/agrdist-e2e-XXXXXX")
trap 'rm -rf "$work"' EXIT
# The custom resources of Kubeflow Trainer are in its module.
E2E_TRAINER=$(cd / && GOFLAGS= go mod download -json github.com/kubeflow/trainer/v2@v2.2.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
export E2E_TRAINER E2E_WORK=$work E2E_S3=$s3 E2E_KUBEROUTER=$kuberouter E2E_KUBE=$kube E2E_DEBS=$debs/root E2E_REPO=$repo
mkdir -p "$work/pause"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/pause/pause" ./hack/e2e/pause
go build -o "$work/e2e" ./hack/e2e
deploy/rootfs.sh "$work/rootfs"
case " $* " in # for the scenario image-list: there is no network inside
*image-list*) both=yes ;;
*" -short "* | *-run*) both= ;;
*) both=yes ;;
esac
if [ -n "$both" ]; then
  for arch in amd64 arm64; do GOARCH=$arch deploy/rootfs.sh "$work/list-$arch/rootfs"; done
fi
# Its control groups and interfaces, its own /etc, /var/lib and /run: the host stays as it is.
# SIGKILL to the first process, when this script ends, ends all.
controllers=$(awk -F: '$2 != "" && $2 !~ /name=/ {print $2}' /proc/self/cgroup | tr '\n' ' ')
export E2E_CONTROLLERS=$controllers
unshare -m -n -p -u -i -C --fork --kill-child --mount-proc bash hack/e2e/inside.sh "$work/e2e" "$@" &
child=$!
trap 'kill $child 2>/dev/null || true; wait $child 2>/dev/null || true; rm -rf "$work"' EXIT
# For -hold: the first process inside, by its number out here.
until pgrep -P $child > "$work/pid" || ! kill -0 $child 2>/dev/null; do sleep 0.1; done
wait $child
