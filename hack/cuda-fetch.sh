#!/usr/bin/env bash
# Fetch what of NVIDIA's is needed without a GPU, once, into the user's cache.
#   cuda-fetch.sh build   print what `-tags cuda` builds need, as shell exports. Only
#                         cuda.h is NVIDIA's: it is looked for in $AGRDIST_CUDA_INCLUDE,
#                         in the cache, in an installed toolkit, and else fetched
#                         (PyPI, then Debian). AGRDIST_CUDA_HEADERS=13 takes that of
#                         CUDA 13 from PyPI.
#   cuda-fetch.sh nvrtc [12|13]
#                         print the directory of NVRTC, the kernels' compiler (PyPI)
#   cuda-fetch.sh libraries [12|13]
#                         print the directories, as in PATH, of NVRTC, cuBLASLt and cuDNN
#                         (PyPI; about 1 GB for each version of CUDA)
# GOARCH=arm64 is for linux/arm64, also from another processor.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/cuda
mkdir -p "$cache"

# host is this machine's processor in Go's words.
host() {
  case $(uname -m) in
    aarch64 | arm64) echo arm64 ;;
    *) echo amd64 ;;
  esac
}
arch=${GOARCH:-$(host)}

# Versions are pinned by the wheels' SHA-256: linux/amd64, and linux/arm64 but for headers,
# which are the same.
header12='nvidia-cuda-runtime-cu12==12.6.77
  --hash=sha256:ba3b56a4f896141e25e19ab287cd71e52a6a0f4b29d0d31609f60e3b4d5219b7
  --hash=sha256:a84d15d5e1da416dd4774cb42edf5e954a3e60cc945698dc1d5be02321c44dc8'
header13='nvidia-cuda-runtime==13.0.96
  --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548'
nvrtc12='nvidia-cuda-nvrtc-cu12==12.6.85
  --hash=sha256:800927308ccc5dd6246d3f61f7fcef2ed7ec4e59e199090d360d3293f78bd5a2
  --hash=sha256:3f3134f50963882373063901657554f230bedf6039d30b09f6be55c64c993a37'
nvrtc13='nvidia-cuda-nvrtc==13.0.88
  --hash=sha256:ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
  --hash=sha256:d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b'
cublas12='nvidia-cublas-cu12==12.9.1.4
  --hash=sha256:453611eb21a7c1f2c2156ed9f3a45b691deda0440ec550860290dc901af5b4c2
  --hash=sha256:7a950dae01add3b415a5a5cdc4ec818fb5858263e9cca59004bb99fdbbd3a5d6'
cublas13='nvidia-cublas==13.0.2.14
  --hash=sha256:0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c
  --hash=sha256:17165c296de689662b96e0ef4f21dfbff3092ff00d0e3e59470f5acb08c0f87d'
cudnn12='nvidia-cudnn-cu12==9.15.1.9
  --hash=sha256:343d9b4bdba9df2f4acf5e8d8582fd40b66ee65fa5cff7702d58ebdc0c077dfa
  --hash=sha256:2520692ef9d7804f4f02c8f3a127b24d568bb944ab1ccee0ab946a64699acf36'
cudnn13='nvidia-cudnn-cu13==9.15.1.9
  --hash=sha256:ebc9a647918df0d7298d67cfaf41579fd4c78ead9aba246f5ad9414d61b9ec4c
  --hash=sha256:44cd2ec83c3ef62a7357614bd02ce7f3dac35ffcbb04ad20999e730741f0ba17'

# wheel REQUIREMENT MACHINE: unpack the wheel for x86_64 or aarch64 into $tmp/files.
wheel() {
  command -v python3 > /dev/null || return 1
  rm -rf "${tmp:?}"/*
  printf '%s' "$1" | tr -d '\n' > "$tmp/requirements.txt"
  local tag platforms=()
  for tag in manylinux2014 manylinux_2_17 manylinux2010 manylinux_2_12 manylinux_2_27; do platforms+=(--platform "${tag}_$2"); done
  python3 -m pip download -q --no-deps --only-binary=:all: --require-hashes --no-cache-dir \
    "${platforms[@]}" -r "$tmp/requirements.txt" -d "$tmp" 1>&2 || return 1
  python3 -m zipfile -e "$tmp"/*.whl "$tmp/files"
}

header_from_wheel() {
  wheel "$1" x86_64 || return 1
  find "$tmp/files" -path '*/include/cuda.h' -exec mv {} "$tmp/cuda.h" \;
  [ -f "$tmp/cuda.h" ]
}

# The header out of Debian's package (non-free), without installing it.
header_from_debian() {
  command -v apt-get > /dev/null || return 1
  (cd "$tmp" && apt-get -qq download nvidia-cuda-dev) 1>&2 || return 1
  dpkg-deb --fsys-tarfile "$tmp"/nvidia-cuda-dev_*.deb | tar -x -C "$tmp" ./usr/include/cuda.h &&
    mv "$tmp/usr/include/cuda.h" "$tmp/cuda.h"
}

# keep FILE DIR: a rename makes it whole or absent, also when two do this at once.
keep() { mkdir -p "$2" && mv -f "$1" "$2/"; }

in_tmp() {
  tmp=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  echo "fetching $1 (once, into $cache)" >&2
}

find_header() {
  include=${AGRDIST_CUDA_INCLUDE:-}
  if [ -n "$include" ]; then
    [ -f "$include/cuda.h" ] && return
    echo "no cuda.h in AGRDIST_CUDA_INCLUDE=$include" >&2
    exit 1
  fi
  if [ "${AGRDIST_CUDA_HEADERS:-}" = 13 ]; then
    include=$cache/include13
    [ -f "$include/cuda.h" ] && return
    in_tmp "cuda.h of CUDA 13"
    header_from_wheel "$header13" && keep "$tmp/cuda.h" "$include"
    return
  fi
  for include in "$cache/include" "${CUDA_HOME:-/usr/local/cuda}/include" /usr/include; do
    [ -f "$include/cuda.h" ] && return
  done
  include=$cache/include
  in_tmp cuda.h
  if header_from_wheel "$header12" || header_from_wheel "$header13" || header_from_debian; then
    keep "$tmp/cuda.h" "$include"
    return
  fi
  cat >&2 << 'MISSING'
cuda.h could not be fetched: neither pip (nvidia-cuda-runtime-cu12, nvidia-cuda-runtime)
nor apt-get (nvidia-cuda-dev) gave it. Install python3-pip, or name a directory that
has it: AGRDIST_CUDA_INCLUDE=/usr/local/cuda/include
MISSING
  exit 1
}

# compiler is gcc, or Debian's cross compiler where the build is for another processor.
compiler() {
  case $arch in
    "$(host)") echo gcc ;;
    arm64) echo aarch64-linux-gnu-gcc ;;
    *) echo x86_64-linux-gnu-gcc ;;
  esac
}

build() {
  local cc=${CC:-$(compiler)}
  case $arch in
    amd64 | arm64) ;;
    *) echo "the build for GPUs is for linux/amd64 and linux/arm64, not for GOARCH=$arch" >&2; exit 1 ;;
  esac
  if ! command -v "${cc%% *}" > /dev/null; then
    local package=$cc
    [[ $cc == *-linux-gnu-gcc ]] && package="Debian's gcc-$(tr _ - <<< "${cc%-gcc}") and libc6-dev-$arch-cross"
    echo "the build for GPUs on linux/$arch needs a C compiler: install $package (there is no $cc)" >&2
    exit 1
  fi
  find_header
  # gorgonia.org/cu links with -lcuda. An archive without members satisfies that:
  # the symbols come from internal/cuda/driver, which finds the library at run time.
  mkdir -p "$cache/lib"
  [ -f "$cache/lib/libcuda.a" ] || printf '!<arch>\n' > "$cache/lib/libcuda.a"
  # The header that is found before NVIDIA's is used from the cache: flags that name
  # the checkout would compile gorgonia.org/cu again in each.
  local ours=$root/internal/cuda/driver/include/cuda.h shim
  shim=$cache/shim-$(sha256sum "$ours" | cut -c1-16)
  mkdir -p "$shim"
  cmp -s "$ours" "$shim/cuda.h" || { cp "$ours" "$shim/cuda.h.$$" && mv "$shim/cuda.h.$$" "$shim/cuda.h"; }
  printf 'export CGO_ENABLED=1\n'
  printf 'export CGO_CFLAGS=%q\n' "-O2 -g -I$shim -I$include"
  if [ "$arch" = "$(host)" ]; then
    printf 'export CGO_LDFLAGS=%q\n' "-L$cache/lib"
  else # gorgonia.org/cu names directories of this machine's libraries, which ld passes by
    printf 'export CC=%q CGO_LDFLAGS=%q\n' "$cc" "-L$cache/lib -Wl,--no-warn-search-mismatch"
  fi
}

# unpack_into V: where the libraries of CUDA V lie.
unpack_into() {
  case $arch in
    arm64) echo "$cache/cu$1-arm64" ;;
    *) echo "$cache/cu$1" ;;
  esac
}

# unpacked V NAME...: the libraries of wheels of CUDA V lie there as pip lays them: what
# loads there loads for users.
unpacked() {
  local root v=$1 part name requirement file machine=x86_64
  root=$(unpack_into "$1")
  [ "$arch" != arm64 ] || machine=aarch64
  shift
  for part; do
    name=$part$v
    requirement=${!name}
    name=${requirement%%[[:space:]]*}
    # The stamp lists the files; a cache that has lost one is filled again.
    [ -s "$root/$name" ] && (cd "$root" && xargs -d '\n' ls -d -- < "$name" > /dev/null 2>&1) && continue
    in_tmp "$name"
    wheel "$requirement" $machine || { echo "pip did not give $name" >&2; exit 1; }
    while IFS= read -r file; do
      keep "$tmp/files/$file" "$root/$(dirname "$file")"
      echo "$file" >> "$tmp/$name"
    done < <(cd "$tmp/files" && find nvidia -name '*.so*' ! -name '*.alt.*')
    keep "$tmp/$name" "$root"
    rm -rf "$tmp"
  done
}

# holding V FILE: the directory of a library.
holding() { dirname "$(find "$(unpack_into "$1")/nvidia" -name "$2" | head -n 1)"; }

nvrtc() {
  local v=${1:-12}
  unpacked "$v" nvrtc
  holding "$v" "libnvrtc.so.$v"
}

libraries() {
  local v=${1:-12} dirs
  unpacked "$v" nvrtc cublas cudnn
  dirs=$(for file in "libnvrtc.so.$v" "libcublasLt.so.$v" libcudnn.so.9; do holding "$v" "$file"; done | uniq)
  echo "${dirs//$'\n'/:}"
}

case ${1:-} in
  build | nvrtc | libraries) "$@" ;;
  *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
