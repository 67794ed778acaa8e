#!/usr/bin/env bash
# Check what a newcomer sees: agrdist run with nothing said trains digits that can be
# read. It runs outside `make test`, whose race detector would make it ten times as slow.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

CGO_ENABLED=0 ${GO:-go} build -o "$dir/agrdist" ./cmd/agrdist
start=$SECONDS
"$dir/agrdist" run --out "$dir/run" --set dashboard.bind=off
printf 'make run took %d s; on two idle cores it must stay below 60\n' $((SECONDS - start))

"$dir/agrdist" eval --from "$dir/run" -n 200 --json >"$dir/eval.json"
value() { grep -o "\"$1\":{\"value\":[0-9.e+-]*" "$dir/eval.json" | sed 's/.*://'; }
check() {
  local is
  is=$(value "$1")
  printf '%s %s, at least %s is asked for\n' "$1" "${is:?is not in the evaluation}" "$2"
  awk -v is="$is" -v least="$2" 'BEGIN { exit !(is >= least) }'
}
check digits-sure 0.9 # images that the classifier gives a class with p >= 0.9
check digits-accuracy 0.95

# The README's digest is that of AVX-512 kernels: other sets round differently.
digest=$(grep -ho '"model_digest":"[0-9a-f]*"' "$dir/run/events.jsonl" | cut -d'"' -f4)
backend=$(grep -ho '"backend":"[^"]*"' "$dir/run/events.jsonl" | head -1 | cut -d'"' -f4)
if grep -q "$digest" README.md; then
  printf 'digest %s, as in the README\n' "$digest"
elif [[ $backend == cpu/avx512* ]]; then
  printf 'digest %s on %s; the README has another\n' "$digest" "$backend" >&2
  exit 1
else
  printf 'digest %s on %s; the README has that of AVX-512\n' "$digest" "$backend"
fi
