#!/usr/bin/env bash
# Run golangci-lint at the version given, built from the module proxy once and
# kept in the user's cache; then look for exports that nobody calls.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
dir=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/golangci-lint-$version
[ -x "$dir/golangci-lint" ] || GOBIN=$dir CGO_ENABLED=0 go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
"$dir/golangci-lint" run ./...
go run ./hack/deadexports
