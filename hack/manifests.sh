#!/usr/bin/env bash
# Build every kustomization under deploy/k8s and validate it with kubeconform
# -strict against the schemas of a pinned Kubernetes. Needs only the Go module
# proxy; tools and schemas are kept in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."
KUBERNETES=v1.34.4 KUSTOMIZE=v5.8.0 KUBECONFORM=v0.7.0 TRAINER=v2.2.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist
tool() { # tool NAME MODULE VERSION
  local dir=$cache/$1-$3
  [ -x "$dir/$1" ] || GOBIN=$dir CGO_ENABLED=0 GOFLAGS= go install "$2@$3" >&2
  echo "$dir/$1"
}
kustomize=$(tool kustomize sigs.k8s.io/kustomize/kustomize/v5 $KUSTOMIZE)
kubeconform=$(tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform $KUBECONFORM)
schemas=$cache/k8s-schemas-$KUBERNETES-trainer-$TRAINER
module() { (cd / && GOFLAGS= go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); }
if [ ! -f "$schemas/done" ]; then
  # The custom resources of Kubeflow Trainer; a runtime's schema has a JobSet's in it.
  go run ./hack/k8sschema -swagger "$(module "k8s.io/kubernetes@$KUBERNETES")/api/openapi-spec/swagger.json" -out "$schemas" \
    "$(module "github.com/kubeflow/trainer/v2@$TRAINER")"/manifests/base/crds/trainer.*.yaml
  touch "$schemas/done"
fi
# schema FILE: validate it, custom resources of other projects (no module of theirs has the
# schema) excepted.
schema() {
  "$kubeconform" -strict -summary -skip PodMonitor,PrometheusRule,PodGroup,Certificate -schema-location "$schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$1"
}
# run DIR: a whole run. Schemas first, then what only the rendered text shows.
run() {
  echo "== $1"
  "$kustomize" build "$1" > "$rendered"
  schema "$rendered"
  "$check" < "$rendered"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rendered=$work/rendered.yaml check=$work/k8scheck
go build -o "$check" ./hack/k8scheck
for dir in deploy/k8s/base deploy/k8s/overlays/*/; do
  run "${dir%/}"
done
for file in deploy/k8s/kubeflow/*.yaml deploy/k8s/jobset/*.yaml; do
  echo "== $file"
  schema "$file"
done
# Every component on the base, and all of them at once in a run with a suffix.
cp -r deploy/k8s "$work/k8s"
overlay() { # overlay NAME COMPONENT...
  local dir=$work/k8s/overlays/check-$1
  mkdir -p "$dir"
  {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\n'
    printf 'nameSuffix: -%s\nlabels: [{pairs: {app.kubernetes.io/instance: %s}, includeSelectors: true, includeTemplates: true}]\n' "$1" "$1"
    printf 'components:\n'
    printf -- '- ../../components/%s\n' "${@:2}"
  } > "$dir/kustomization.yaml"
  run "$dir"
}
components=$(cd deploy/k8s/components && ls)
for c in $components; do
  overlay "$c" "$c"
done
# shellcheck disable=SC2086 # one word a component
overlay all $components
