#!/usr/bin/env bash
# All that can be checked of the tag cuda without a GPU: it builds and vets with the
# headers of CUDA 12 and 13, the tests pass on the doubles of NVIDIA's libraries, the
# binary starts without a driver, and NVIDIA's own compiler, of CUDA 12 and of 13, takes
# the kernels and spills no registers. AGRDIST_TEST_LIBRARIES=1 also loads NVIDIA's cuDNN
# and cuBLASLt. Then the build for linux/arm64, under qemu (hack/cuda-arm64-check.sh).
# Needs gcc and g++. Arguments are handed to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
source hack/cuda-env.sh

packages=(./internal/cuda/... ./tensor/cuda ./allreduce/nccl ./doctor ./setup)

echo '== the list of driver functions is what gorgonia.org/cu calls'
hack/cuda-symbols.sh --check

echo '== build and vet'
go build -tags cuda ./...
go vet -tags cuda "${packages[@]}" ./cmd/...

echo '== build with the headers of CUDA 13'
if env=$(AGRDIST_CUDA_HEADERS=13 hack/cuda-fetch.sh build); then
  (eval "$env" && go build -tags cuda ./internal/cuda/...)
else
  echo 'SKIPPED: the header of CUDA 13 could not be fetched'
fi

echo '== tests on the doubles'
go test -tags cuda "$@" "${packages[@]}"
go test -tags cuda -run 'CUDA|GPU' "$@" ./cmd/agrdist

echo '== no data races, and the bytes that are counted: every access of every kernel is looked at'
AGRDIST_FAKE_RACES=1 go test -tags cuda -run 'TestConformance|TestPassHas|TestDigest|TestSlabs|TestBF16|TestConvolutions|TestProducts|TestOperandsAnywhere|TestTraffic' "$@" ./tensor/cuda

echo '== the binary starts without a driver'
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
make --no-print-directory cuda BIN="$dir/agrdist"
if readelf -d "$dir/agrdist" | grep -E 'NEEDED.*(cuda|nvrtc|cudnn|cublas|nccl)'; then
  echo 'the binary needs a library of NVIDIA at its start' >&2
  exit 1
fi
bare() { env -i HOME="$dir" PATH=/usr/bin:/bin AGRDIST_LIBCUDA="$dir/libcuda.so.1" "$dir/agrdist" "$@"; }
bare version
bare run --help > "$dir/help"
grep -q Usage "$dir/help"

# As users have them: NVIDIA's own files from PyPI, found by AGRDIST_CUDA_PATH alone.
unset LD_LIBRARY_PATH
for cuda in 12 13; do
  echo "== NVIDIA compiles the kernels: CUDA $cuda"
  if nvrtc=$(hack/cuda-fetch.sh nvrtc $cuda); then
    # -v prints what each kernel uses.
    AGRDIST_TEST_GPU=1 AGRDIST_CUDA_PATH="$nvrtc" go test -tags cuda -count=1 -v ./internal/cuda/nvrtc |
      sed -e '/^ *=== /d' -e 's/^ *kernels_test.go:[0-9]*: /  /'
  else
    echo "SKIPPED: NVRTC of CUDA $cuda could not be fetched"
  fi
done

# cuDNN and cuBLASLt are large: 1 GB for each version of CUDA.
for cuda in 12 13; do
  echo "== NVIDIA's libraries load: CUDA $cuda"
  if [ -z "${AGRDIST_TEST_LIBRARIES:-}" ]; then
    echo 'SKIPPED: set AGRDIST_TEST_LIBRARIES=1 to fetch cuDNN and cuBLASLt'
  elif dirs=$(hack/cuda-fetch.sh libraries $cuda); then
    AGRDIST_TEST_GPU=1 AGRDIST_TEST_CUDA_LIB="$dirs" go test -tags cuda -count=1 -v -run TestRealLibrary \
      ./internal/cuda/cudnn ./internal/cuda/cublaslt
  else
    echo "SKIPPED: the libraries of CUDA $cuda could not be fetched"
  fi
done

hack/cuda-arm64-check.sh
