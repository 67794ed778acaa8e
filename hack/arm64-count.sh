#!/usr/bin/env bash
# Count the instructions of a training step on arm64 without the hardware, under qemu-user:
# the kernels of Advanced SIMD against plain Go. A count, not a time.
#   hack/arm64-count.sh [PRESET [BATCH]]    (default: digits 8)
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-digits} batch=${2:-8}
for tool in qemu-aarch64 gcc; do
  command -v $tool >/dev/null || { echo "arm64-count: no $tool; install Debian's qemu-user and gcc" >&2; exit 1; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
gcc -shared -fPIC -O2 -o "$dir/insns.so" hack/insns.c
GOARCH=arm64 CGO_ENABLED=0 go build -o "$dir/agrdist" ./cmd/agrdist

# instructions SET: of one step, after one to warm up. The plugin tells how many there were
# when the benchmark asked for its CPU time: last before and after that step.
instructions() {
  AGRDIST_CPU=$1 GOMAXPROCS=1 qemu-aarch64 -plugin "$dir/insns.so" -d plugin -D "$dir/log" "$dir/agrdist" \
    bench step --preset "$preset" --batch "$batch" --threads 1 --steps 1 >/dev/null
  awk '/^cpu time:/ {before = after; after = $3; n++} END {if (n != 3) exit 1; printf "%.0f\n", after - before}' "$dir/log"
}

for set in neon go; do
  n=$(instructions $set)
  echo "$preset, batch $batch, $set: $n instructions a step"
  declare "n_$set=$n"
done
awk -v a="$n_go" -v b="$n_neon" 'BEGIN {printf "plain Go executes %.1f times as many\n", a / b}'
