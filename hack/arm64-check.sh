#!/usr/bin/env bash
# Check the arm64 kernels without the hardware: everything assembles and vets for linux and
# darwin, and the tests of the kernels, the backend, the fused pass, the UNet's golden
# values and the worlds of 1 to 5 workers pass under qemu-user.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0

# vet knows the sizes of frames and the places of arguments.
packages="./internal/isa ./internal/neon ./tensor/cpu/... ./agr/..."
for os in linux darwin; do
  echo "vet $os/arm64"
  # shellcheck disable=SC2086 # a list
  GOOS=$os GOARCH=arm64 go vet $packages
done

if ! command -v qemu-aarch64 >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get install -y -qq qemu-user >/dev/null || (apt-get update -qq && apt-get install -y -qq qemu-user >/dev/null) || true
fi
if ! command -v qemu-aarch64 >/dev/null; then
  echo "SKIP: 6 packages of arm64 tests: no qemu-aarch64 here (Debian's qemu-user)"
  exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
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
  check tensor/cpu/internal/kernel
  check agr
) &
others=$!
failed=0
check tensor/cpu -test.run '^(TestConformance|TestThreadsChangeNoBit|TestBF16IsExactOnIntegers|TestBF16KeepsNaNAndInf)$/^neon|^TestWinograd' &&
  check trainer -test.run '^(TestAnyWorldSizeGivesTheSameBits|TestNEONRoundsAsAVX2)$' || failed=1
wait $others || failed=1
[ $failed = 0 ] && check diffusion/unet -test.run Golden
