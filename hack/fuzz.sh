#!/usr/bin/env bash
# Fuzz every target of the module, one after another, with as many inputs as given
# (go test's -fuzztime: 20000x is a count, 10s a time).
set -euo pipefail
cd "$(dirname "$0")/.."
budget=${1:-100000x}
# A package may have several targets; go test takes one at a time.
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
  for target in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file"); do
    echo "== $(dirname "$file") $target"
    # Go would spend up to a minute on making each new input smaller, and not try others.
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$budget" -fuzzminimizetime 200x "$(dirname "$file")"
  done
done
