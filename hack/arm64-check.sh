#!/usr/bin/env bash
# Check the arm64 kernels without the hardware: everything assembles and vets for linux and
# darwin, and the tests of the kernels, the backend, the fused pass, the UNet's golden
# values and the worlds of 1 to 5 workers pass under qemu-user. Training with
# train.cpu=portable ends with the bits that amd64's tests ask for.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0

# vet knows the sizes of frames and the places of arguments.
packages="./internal/isa ./internal/neon ./internal/portable ./tensor/cpu/... ./agr/..."
for os in linux darwin; do
  echo "vet $os/arm64"
  # shellcheck disable=SC2086 # a list
  GOOS=$os GOARCH=arm64 go vet $packages
done

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The compiler makes one rounding of x*y + z on arm64 and two on amd64, unless the product
# is converted. These need no conversion: their products are exact in float64, or the bits of
# no model depend on them, or one rounding is what they ask for.
exact='internal/portable\.(Exp|FMA)|optim\.AddNorms|tensor/cpu\.mseOne|kernel\.\(\*sums\)\.add'
telemetry='status\.|trainer\.\(\*progress\)\.committed|worker\.\(\*heldOut\)\.write'
echo "no fused multiply-add where training rounds twice on amd64"
GOOS=linux GOARCH=arm64 go test -c -o "$dir/worker" ./worker
go tool objdump -s 'github.com/agrdist/agrdist/' "$dir/worker" >"$dir/assembly"
grep -q 'tensor/cpu/internal/kernel\.dotGo' "$dir/assembly" || { echo "arm64-check: no kernels in the disassembly" >&2; exit 1; }
awk '/^TEXT/ {f = $2} /\tFN?M(ADD|SUB)[SD] / {print f}' "$dir/assembly" | sort -u | grep -vE "$exact|$telemetry" >"$dir/fused" || true
if [ -s "$dir/fused" ]; then
  echo "arm64-check: fused on arm64 and not on amd64; convert the product, as float32(x*y) + z:" >&2
  cat "$dir/fused" >&2
  exit 1
fi

if ! command -v qemu-aarch64 >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get install -y -qq qemu-user >/dev/null || (apt-get update -qq && apt-get install -y -qq qemu-user >/dev/null) || true
fi
if ! command -v qemu-aarch64 >/dev/null; then
  echo "SKIP: 8 packages of arm64 tests: no qemu-aarch64 here (Debian's qemu-user)"
  exit 0
fi

# check PACKAGE ARGUMENT...: its tests for arm64, within 10 minutes.
check() {
  local package=$1 start=$SECONDS at=$dir/${1//\//-}
  shift
  GOOS=linux GOARCH=arm64 go test -c -o "$at" "./$package"
  (cd "$package" && timeout 600 qemu-aarch64 "$at" "$@" >"$at.log" 2>&1) || {
    grep -E -B 20 -A 20 -m 5 -e '--- FAIL|panic:|^FAIL' "$at.log" || tail -n 40 "$at.log"
    echo "arm64-check: $package fails under qemu" >&2
    return 1
  }
  grep -q '^PASS' "$at.log" || { echo "arm64-check: $package ran no test" >&2; return 1; }
  echo "ok $package in $((SECONDS - start)) s"
}

# Two at once: a test under qemu keeps one core busy.
export AGRDIST_CPU=neon
(
  set -e
  check internal/isa
  check internal/portable -test.run 'TestFunctions|TestEnds'
  check tensor/cpu/internal/kernel
  check agr
) &
others=$!
failed=0
# neonbf16 in precision bf16, for which qemu has the instructions; then all else on neon.
check tensor/cpu -test.run '^TestBF16Conformance$/^neonbf16' &&
  check tensor/cpu -test.run '^(TestConformance|TestThreadsChangeNoBit|TestBF16IsExactOnIntegers|TestBF16KeepsNaNAndInf)$/^neon|^TestWinograd' &&
  check trainer -test.run '^(TestAnyWorldSizeGivesTheSameBits|TestNEONRoundsAsAVX2)$' || failed=1
wait $others || failed=1
[ $failed = 0 ] && check diffusion/unet -test.run 'Golden|BF16Gradients' &&
  AGRDIST_CPU='' check worker -test.run 'TestPortableBits/portable-neon$'
