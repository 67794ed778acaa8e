# shellcheck shell=bash
# To be sourced: sets what `go build|test|vet -tags cuda` needs.
#   source hack/cuda-env.sh && go test -tags cuda ./internal/cuda/...
if agrdist_cuda_env=$("$(dirname "${BASH_SOURCE[0]}")/cuda-fetch.sh" build); then
  eval "$agrdist_cuda_env"
  unset agrdist_cuda_env
else
  unset agrdist_cuda_env
  return 1
fi
