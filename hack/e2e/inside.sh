#!/usr/bin/env bash
# The first process of the namespaces of hack/e2e-k8s.sh: gives them a machine's look and
# runs the test. Arguments: the test's program and its flags.
set -euo pipefail
hostname agrdist-e2e
mount --make-rprivate /
mount -t sysfs sysfs /sys
if [ -n "$E2E_CONTROLLERS" ]; then # version 1: each controller is mounted by itself
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for c in $E2E_CONTROLLERS; do
    mkdir -p "/sys/fs/cgroup/$c"
    mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c"
  done
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
else # version 2: controllers go to children only where the group has no process itself
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir -p /sys/fs/cgroup/test
  while read -r pid; do echo "$pid" > /sys/fs/cgroup/test/cgroup.procs 2>/dev/null || true; done < /sys/fs/cgroup/cgroup.procs
  for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" > /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true; done
fi
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /opt
over() { # over DIR: writes go to the work directory
  local at=$E2E_WORK/over$1
  mkdir -p "$at/upper" "$at/work"
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$at/upper,workdir=$at/work" "$1"
}
over /etc
over /var/lib
mkdir -p "$E2E_WORK/log" /var/lib/kubelet
mount --bind "$E2E_WORK/log" /var/log
mkdir -p "$E2E_WORK/state" && mount --bind "$E2E_WORK/state" "$E2E_WORK/state"
mount --make-rshared /
echo "127.0.0.1 localhost agrdist-e2e" > /etc/hosts

# The packages' programs find their libraries.
printf '%s\n' "$E2E_DEBS"/usr/lib/x86_64-linux-gnu "$E2E_DEBS"/lib/x86_64-linux-gnu > /etc/ld.so.conf.d/agrdist-e2e.conf
ldconfig 2>/dev/null
export XTABLES_LIBDIR=$E2E_DEBS/usr/lib/x86_64-linux-gnu/xtables
mkdir -p /run/e2e-bin
for i in iptables ip6tables iptables-save iptables-restore ip6tables-save ip6tables-restore; do
  ln -s "$E2E_DEBS/usr/sbin/xtables-nft-multi" "/run/e2e-bin/$i"
done
export PATH=/run/e2e-bin:$E2E_KUBE:$E2E_DEBS/usr/bin:$E2E_DEBS/usr/sbin:$E2E_DEBS/sbin:$PATH

# Two nodes have an address each on a bridge without a cable.
ip link set lo up
ip link add node0 type bridge
ip addr add 10.99.0.1/24 dev node0
ip addr add 10.99.0.2/24 dev node0
ip addr add 169.254.20.10/32 dev node0 # DNS
ip link set node0 up
ip route add default via 10.99.0.1 dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward

"$@" &
child=$!
trap 'kill -INT $child 2>/dev/null || true' INT TERM
status=0
wait $child || status=$?
exit $status
