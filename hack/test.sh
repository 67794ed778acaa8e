#!/usr/bin/env bash
# Run all tests with the race detector and say how many were skipped, and why.
# Arguments are handed to go test (default: ./...).
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(./...)
status=0
go test -race -timeout 20m -json "${packages[@]}" > "$log" || status=$?
go run ./hack/testreport < "$log" || status=$?
exit "$status"
