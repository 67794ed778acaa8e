#!/usr/bin/env bash
# What of hack/cuda-check.sh can be run for linux/arm64 on another processor: the GPU build
# is cross-compiled, and its trampolines, its kernels, NCCL between processes and a training
# run pass under qemu-user on doubles that were compiled for arm64. The training ends with
# the bits of amd64. NVIDIA's own compiler for arm64 takes a kernel.
# Skipped where qemu-user or Debian's cross compiler is missing and cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(uname -m)" = x86_64 ] || { echo 'SKIPPED: the GPU build for arm64: hack/cuda-check.sh itself checks it on this processor'; exit 0; }

if ! { command -v qemu-aarch64 && command -v aarch64-linux-gnu-g++; } >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  packages=(qemu-user gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross)
  apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
    (apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null) || true
fi
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v $tool >/dev/null || { echo "SKIPPED: 6 packages of the GPU build for arm64: no $tool here (Debian's g++-aarch64-linux-gnu and qemu-user)"; exit 0; }
done

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

echo '== arm64: training on amd64, to compare'
(source hack/cuda-env.sh && AGRDIST_TEST_DIGEST="$dir/amd64" go test -tags cuda -count=1 -run TestGPUDigest ./worker)

# As a release is built, so that both use one cache.
export GOARCH=arm64 GOFLAGS="-trimpath -buildvcs=false"
source hack/cuda-env.sh
echo '== arm64: the list of driver functions, and the build'
hack/cuda-symbols.sh --check
packages=(internal/cuda/driver internal/cuda/cudatest internal/cuda/nvrtc allreduce/nccl tensor/cuda worker)
go build -tags cuda,grpcnotrace -o "$dir/agrdist" ./cmd/agrdist
go test -c -tags cuda,grpcnotrace -o "$dir/" "${packages[@]/#/./}"

export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu AGRDIST_TEST_EXEC=qemu-aarch64 AGRDIST_FAKE_CXX=aarch64-linux-gnu-g++
# check PACKAGE ARGUMENT...: its tests for arm64, within 15 minutes (it takes seconds where nothing else runs).
check() {
  local package=$1 start=$SECONDS log=$dir/${1//\//-}.log
  shift
  (cd "$package" && timeout 900 qemu-aarch64 "$dir/$(basename "$package").test" -test.v "$@" >"$log" 2>&1) || {
    grep -E -B 20 -A 20 -m 5 -e '--- FAIL|panic:|^FAIL' "$log" || tail -n 40 "$log"
    echo "cuda-arm64-check: $package fails under qemu" >&2
    return 1
  }
  grep -q '^ *--- PASS' "$log" || { echo "cuda-arm64-check: $package ran no test" >&2; return 1; }
  echo "ok $package: $(grep -c '^ *--- PASS' "$log") tests in $((SECONDS - start)) s"
}

echo '== arm64: the binary starts without a driver'
[[ $(AGRDIST_LIBCUDA=$dir/none qemu-aarch64 "$dir/agrdist" version) == *linux/arm64* ]]

echo '== arm64: tests on the doubles under qemu'
check internal/cuda/driver
check internal/cuda/cudatest -test.run 'TestFaults|TestMemoryIsGuarded|TestReductions|TestLanes|TestDynamicShared|TestGraphRepeats'
check allreduce/nccl -test.run '^TestProcesses$'
check tensor/cuda -test.run '^TestConformance$|^TestDigest$'
AGRDIST_TEST_DIGEST="$dir/arm64" check worker -test.run TestGPUDigest
cmp "$dir/amd64" "$dir/arm64" || { echo "cuda-arm64-check: training on amd64 and on arm64 ends with other bits: $(cat "$dir/amd64" "$dir/arm64")" >&2; exit 1; }

for cuda in 12 13; do
  echo "== arm64: NVIDIA compiles a kernel: CUDA $cuda"
  if nvrtc=$(hack/cuda-fetch.sh nvrtc $cuda); then
    AGRDIST_TEST_GPU=1 AGRDIST_CUDA_PATH=$nvrtc check internal/cuda/nvrtc -test.run 'TestKernelSources/sm_90/random'
  else
    echo "SKIPPED: NVRTC of CUDA $cuda for arm64 could not be fetched"
  fi
done
