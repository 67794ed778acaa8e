#!/usr/bin/env bash
# Drive the page of a real run in headless Chromium, read a run's TensorBoard files with
# TensorBoard, its exports with pandas, pyarrow and MLflow, scrape a run with Prometheus and
# test the alert rules. Installs what is
# missing (apt as root, npm, pip). With --images, renew docs/images/dashboard-*.png.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

skip() { echo "SKIP: $1"; exit 0; }
apt_get() { apt-get install -y -qq --no-install-recommends "$@" >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }; }
command -v node >/dev/null || skip "no node"
command -v chromium >/dev/null || { [ "$(id -u)" = 0 ] || skip "no chromium, and no right to install it"; apt_get chromium; }
command -v promtool >/dev/null || { [ "$(id -u)" = 0 ] || skip "no promtool, and no right to install it"; apt_get prometheus; }

echo "== page"
go build -o "$work/agrdist" ./cmd/agrdist
(cd test/web && npm ci --no-audit --no-fund --silent)
export AGRDIST=$work/agrdist CHROMIUM=$(command -v chromium)
if [ "${1:-}" = --images ]; then export WEB_IMAGES=$PWD/docs/images; fi
node --test test/web/page.test.mjs

echo "== tensorboard"
run=$work/runs/tb
"$work/agrdist" run --set train.steps=60 --set sample.every=20 --set log.measure_every=10 --set train.global_batch=16 --set train.chunk=4 --out "$run" >"$work/log" 2>&1 &
pid=$!
until [ "$(grep -c . "$run/events.jsonl" 2>/dev/null || true)" -gt 20 ] 2>/dev/null; do
  kill -0 $pid 2>/dev/null || break
  sleep 0.1
done
kill -TERM $pid
wait $pid || [ $? = 143 ] || { cat "$work/log"; exit 1; }
"$work/agrdist" run --set train.steps=60 --set sample.every=20 --set log.measure_every=10 --set train.global_batch=16 --set train.chunk=4 --out "$run" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
venv=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/tensorboard-venv
[ -x "$venv/bin/tensorboard" ] || { python3 -m venv "$venv" && "$venv/bin/pip" -q install 'tensorboard==2.21.0'; }
"$venv/bin/python" test/web/tensorboard_test.py "$run" 2>/dev/null

echo "== pandas, mlflow"
venv=${XDG_CACHE_HOME:-$HOME/.cache}/agrdist/tables-venv
[ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pandas, pyarrow, mlflow' 2>/dev/null || { python3 -m venv "$venv" && "$venv/bin/pip" -q install 'pandas==3.1.1' 'pyarrow==26.0.1' 'mlflow-skinny==3.17.2'; }
"$work/agrdist" events "$run" --format csv >"$work/steps.csv"
"$work/agrdist" events "$run" --format parquet >"$work/steps.parquet"
"$work/agrdist" export "$run" --to mlflow --out "$work/mlruns"
"$work/agrdist" export "$run" --to wandb-jsonl --out "$work/wandb"
MLFLOW_DISABLE_TELEMETRY=true "$venv/bin/python" test/web/tables_test.py "$run" "$work"

echo "== prometheus"
promtool check rules deploy/monitoring/alerts.yaml
promtool test rules deploy/monitoring/alerts_test.yaml
go run ./hack/promcheck "$work/agrdist" "$work" deploy/monitoring
