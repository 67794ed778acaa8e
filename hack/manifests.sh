#!/usr/bin/env bash
# Build every kustomization under deploy/k8s and validate it with kubeconform
# -strict against the schemas of a pinned Kubernetes. Needs only the Go module
# proxy; tools and schemas are kept in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."
KUBERNETES=v1.34.4 KUSTOMIZE=v5.8.0 KUBECONFORM=v0.7.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist
tool() { # tool NAME MODULE VERSION
  local dir=$cache/$1-$3
  [ -x "$dir/$1" ] || GOBIN=$dir CGO_ENABLED=0 GOFLAGS= go install "$2@$3" >&2
  echo "$dir/$1"
}
kustomize=$(tool kustomize sigs.k8s.io/kustomize/kustomize/v5 $KUSTOMIZE)
kubeconform=$(tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform $KUBECONFORM)
schemas=$cache/k8s-schemas-$KUBERNETES
if [ ! -f "$schemas/done" ]; then
  module=$(cd / && GOFLAGS= go mod download -json "k8s.io/kubernetes@$KUBERNETES" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  go run ./hack/k8sschema -swagger "$module/api/openapi-spec/swagger.json" -out "$schemas"
  touch "$schemas/done"
fi
find deploy/k8s -name kustomization.yaml -printf '%h\n' | sort | while read -r dir; do
  echo "== $dir"
  "$kustomize" build "$dir" | "$kubeconform" -strict -summary \
    -schema-location "$schemas/{{.ResourceKind}}{{.KindSuffix}}.json"
done
