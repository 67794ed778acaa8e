#!/usr/bin/env bash
# Remake generated code. With --check: fail where that changes a file.
set -euo pipefail
cd "$(dirname "$0")/.."
# Every go:generate line of the module and of the generators' own modules.
go generate ./...
if [ "${1:-}" = --check ]; then
  changed=$(git status --porcelain -- '*.pb.go' '*.s' '*_gen.go' '*_stub*.go' eval/classifier/digits.safetensors)
  if [ -n "$changed" ]; then
    printf 'generated code differs from its sources; run make generate and commit:\n%s\n' "$changed" >&2
    exit 1
  fi
fi
