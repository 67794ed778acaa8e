#!/usr/bin/env bash
# Print what `-tags cuda` builds need, as shell exports. Only cuda.h is NVIDIA's:
# it is looked for in $AGRDIST_CUDA_INCLUDE, then in the cache, then in an installed
# toolkit, and else fetched once (PyPI, then Debian). No GPU and no driver needed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/cuda
mkdir -p "$cache"

# Versions are pinned by the wheel's SHA-256 (linux/amd64).
cu12='nvidia-cuda-runtime-cu12==12.6.77
  --hash=sha256:ba3b56a4f896141e25e19ab287cd71e52a6a0f4b29d0d31609f60e3b4d5219b7
  --hash=sha256:a84d15d5e1da416dd4774cb42edf5e954a3e60cc945698dc1d5be02321c44dc8'
cu13='nvidia-cuda-runtime==13.0.96
  --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548'

# from_wheel REQUIREMENT: fetch the wheel, keep its cuda.h.
from_wheel() {
  command -v python3 > /dev/null || return 1
  printf '%s\n' "$1" | tr -d '\n' > "$tmp/requirements.txt"
  python3 -m pip download -q --no-deps --only-binary=:all: --require-hashes --no-cache-dir \
    --platform manylinux2014_x86_64 -r "$tmp/requirements.txt" -d "$tmp" 1>&2 || return 1
  python3 -m zipfile -e "$tmp"/*.whl "$tmp/files"
  header=$(find "$tmp/files" -path '*/include/cuda.h' -print -quit)
  [ -n "$header" ] && mv "$header" "$tmp/cuda.h"
}

# from_debian: the header out of Debian's package (non-free), without installing it.
from_debian() {
  command -v apt-get > /dev/null || return 1
  (cd "$tmp" && apt-get -qq download nvidia-cuda-dev) 1>&2 || return 1
  dpkg-deb --fsys-tarfile "$tmp"/nvidia-cuda-dev_*.deb | tar -x -C "$tmp" ./usr/include/cuda.h &&
    mv "$tmp/usr/include/cuda.h" "$tmp/cuda.h"
}

# fetch: put cuda.h in $cache/include. The rename makes it whole or absent, also
# when several builds do this at once.
fetch() {
  tmp=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  echo "fetching cuda.h (once, into $cache)" >&2
  if from_wheel "$cu12" || from_wheel "$cu13" || from_debian; then
    mkdir -p "$cache/include"
    mv "$tmp/cuda.h" "$cache/include/cuda.h"
    return
  fi
  cat >&2 <<MISSING
cuda.h could not be fetched: neither pip (nvidia-cuda-runtime-cu12, nvidia-cuda-runtime)
nor apt-get (nvidia-cuda-dev) gave it. Install python3-pip, or name a directory that
has it: AGRDIST_CUDA_INCLUDE=/usr/local/cuda/include
MISSING
  exit 1
}

include=${AGRDIST_CUDA_INCLUDE:-}
if [ -z "$include" ]; then
  for dir in "$cache/include" "${CUDA_HOME:-/usr/local/cuda}/include" /usr/include; do
    if [ -f "$dir/cuda.h" ]; then include=$dir && break; fi
  done
fi
if [ -z "$include" ]; then
  fetch
  include=$cache/include
fi
[ -f "$include/cuda.h" ] || { echo "no cuda.h in $include (AGRDIST_CUDA_INCLUDE)" >&2; exit 1; }

# gorgonia.org/cu links with -lcuda. An archive without members satisfies that:
# the symbols come from internal/cuda/driver, which finds the library at run time.
mkdir -p "$cache/lib"
[ -f "$cache/lib/libcuda.a" ] || printf '!<arch>\n' > "$cache/lib/libcuda.a"

printf 'export CGO_ENABLED=1\n'
printf 'export CGO_CFLAGS=%q\n' "-O2 -g -I$root/internal/cuda/driver/include -I$include"
printf 'export CGO_LDFLAGS=%q\n' "-L$cache/lib"
