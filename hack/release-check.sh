#!/usr/bin/env bash
# Builds a release twice, in two directories, and compares them byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=${TARGETS:-linux/amd64}
if [ -z "${TARGETS:-}" ]; then
  if command -v aarch64-linux-gnu-gcc >/dev/null; then targets+=' linux/arm64+cuda'; else
    echo "SKIPPED: 1 archive, linux/arm64+cuda: no aarch64-linux-gnu-gcc here"
  fi
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for dir in one another-of-another-length; do
  git clone -q --no-hardlinks . "$work/$dir"
  TARGETS=$targets "$work/$dir/hack/release.sh" 0.0.0-check "$work/$dir-out"
done
diff "$work/one-out/SHA256SUMS" "$work/another-of-another-length-out/SHA256SUMS" ||
  { echo "release-check: two builds of one commit differ" >&2; exit 1; }

cd "$work"
for archive in one-out/*.tar.gz; do
  tar xzf "$archive"
  name=$(basename "$archive" .tar.gz)
  for f in agrdist LICENSE NOTICE man1/agrdist.1 man1/agrdist-run.1 completions/agrdist.bash completions/agrdist.zsh; do
    [ -s "$name/$f" ] || { echo "release-check: $f is missing in $name" >&2; exit 1; }
  done
  ! grep -rqF -e "$work" -e "$HOME/.cache" "$name" || { echo "release-check: a path of the build machine is in $name" >&2; exit 1; }
done
cd agrdist-0.0.0-check-linux-amd64
./agrdist --version
[[ $(./agrdist --version) == "agrdist 0.0.0-check "* ]]
# Above this, something large came in or the linker leaves no unused methods out any more:
# docs/performance.md, "Size of the program".
size=$(stat -c %s agrdist) most=33000000
[ "$size" -le $most ] || { echo "release-check: the program has $size bytes, more than $most" >&2; exit 1; }
grep -q '"google.golang.org/grpc"' ../one-out/agrdist-0.0.0-check.cdx.json
echo "release-check: two builds, the same bytes"
