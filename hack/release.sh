#!/usr/bin/env bash
# usage: hack/release.sh VERSION DIR   (make release)
# Builds what a release consists of, from the commit that is checked out:
#   agrdist-VERSION-OS-ARCH.tar.gz   the stripped static binary, licences, manual pages,
#                                    shell completions
#   agrdist-VERSION.cdx.json         the software bill of materials (CycloneDX)
#   SHA256SUMS
# The same commit and Go version give the same bytes on any machine; those for GPUs
# ("linux/amd64+cuda"), which need gcc, with the same gcc. TARGETS chooses what is built.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
version=$1
targets=${TARGETS:-linux/amd64 linux/arm64 darwin/arm64 linux/amd64+cuda linux/arm64+cuda}
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
[[ $version =~ ^v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "release: the version is $version; it must look like 1.2.3 or 1.2.3-rc.1" >&2
  exit 2
}
version=${version#v}
commit=$(git rev-parse HEAD)
changed=$(git status --porcelain)
[ -z "$changed" ] || {
  printf 'release: these files differ from commit %s; commit or remove them first:\n%s\n' "$commit" "$changed" >&2
  exit 1
}
# grpcnotrace: grpc without its debugging pages, whose templates keep the linker from leaving
# unused methods out (a sixth of the program).
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH GOFLAGS='-trimpath -buildvcs=true -mod=readonly -tags=grpcnotrace' GOAMD64=v1 GOARM64=v8.0 TZ=UTC LC_ALL=C
flags="-s -w -buildid= -X github.com/agrdist/agrdist/internal/version.Version=$version"

mkdir -p "$2"
out=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Manual pages and completions are the same for every target.
doc=$work/doc
mkdir -p "$doc/completions"
CGO_ENABLED=0 go build -tags man -ldflags "$flags" -o "$work/man" ./cmd/agrdist
"$work/man" man "$doc/man1"
for shell in bash zsh fish powershell; do "$work/man" completion $shell >"$doc/completions/agrdist.$shell"; done
cp LICENSE NOTICE README.md CHANGELOG.md "$doc/"

build() { # TARGET BINARY
  local system=${1%%/*} arch=${1#*/}
  case $1 in
  *+cuda)
    # cuda.h and the C flags; -trimpath keeps this machine's paths out of the C code too.
    # shellcheck source=/dev/null
    (export GOOS=$system GOARCH=${arch%+cuda} && . hack/cuda-env.sh &&
      go build -tags cuda,grpcnotrace -ldflags "$flags -extldflags=-Wl,--build-id=none" -o "$2" ./cmd/agrdist)
    ;;
  *) CGO_ENABLED=0 GOOS=$system GOARCH=$arch go build -ldflags "$flags" -o "$2" ./cmd/agrdist ;;
  esac
}

for target in $targets; do
  name=agrdist-$version-$(tr /+ -- <<<"$target")
  dir=$work/$name
  mkdir "$dir"
  cp -R "$doc/." "$dir/"
  build "$target" "$dir/agrdist"
  chmod -R u=rwX,go=rX "$dir"
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
    -C "$work" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
  printf '%-52s %4.1f MB, the binary %4.1f MB\n' "$name.tar.gz" \
    "$(stat -c %s "$out/$name.tar.gz" | awk '{print $1 / 1e6}')" "$(stat -c %s "$dir/agrdist" | awk '{print $1 / 1e6}')"
  rm -rf "$dir"
done

# From the program itself, which carries the list of its modules. -noserial: a random
# serial number would differ each time.
CGO_ENABLED=0 go build -ldflags "$flags" -o "$work/agrdist" ./cmd/agrdist
GOFLAGS='' CGO_ENABLED=0 go run $sbom bin -json -licenses -std -noserial -version "v$version" -output "$work/sbom.json" "$work/agrdist" 2>"$work/sbom.log" ||
  { cat "$work/sbom.log" >&2; exit 1; }
python3 - "$work/sbom.json" "$out/agrdist-$version.cdx.json" "$version" "$SOURCE_DATE_EPOCH" <<'PY'
import datetime, json, sys
bom = json.load(open(sys.argv[1]))
when = datetime.datetime.fromtimestamp(int(sys.argv[4]), datetime.timezone.utc)
bom["metadata"]["timestamp"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
bom["metadata"]["component"]["version"] = sys.argv[3]
json.dump(bom, open(sys.argv[2], "w"), indent=1, sort_keys=True)
PY
(cd "$out" && sha256sum agrdist-"$version"*.tar.gz agrdist-"$version".cdx.json >SHA256SUMS)
echo "commit $commit, $(go env GOVERSION): $out/SHA256SUMS"
