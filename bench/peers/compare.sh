#!/usr/bin/env bash
# Measure agrdist and its peers, alternating (A B A B ...), and print medians and ratios.
#
#   bench/peers/compare.sh [-n PAIRS] [-t THREADS] [small] [full] [ddp] [optimizer] [conv] [allreduce]
#
# Without names, all of them, which takes about 15 minutes on two cores. PYTHON names the
# interpreter whose PyTorch is the peer (default python3); what is not installed is
# skipped, and the table says so. TORCH_FLAGS are handed to the peer's step and conv
# (--channels-last). PRECISION=bf16 has both sides multiply in bf16: steps, runs (the
# peer's under autocast) and convolutions.
#
# One pair is two fresh processes, one after the other. A ratio is peer / agrdist of
# a pair, so more than 1 means that agrdist takes less; the table has the median
# over the pairs and, in brackets, the least and the largest.
set -euo pipefail
cd "$(dirname "$0")/../.."

pairs=3 threads=1 python=${PYTHON:-python3}
while getopts n:t: option; do
  case $option in
    n) pairs=$OPTARG ;;
    t) threads=$OPTARG ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- small full ddp optimizer conv allreduce
read -ra flags <<< "${TORCH_FLAGS:-}"
precision=${PRECISION:-f32}
if [ "$precision" = bf16 ]; then flags+=(--bf16); fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
CGO_ENABLED=0 go build -o "$tmp/agrdist" ./cmd/agrdist

# has MODULE...: the peer's interpreter has them all.
has() {
  local module
  for module; do
    "$python" -c "import $module" > "$tmp/import" 2>&1 || return 1
  done
}

peer() { PYTHONDONTWRITEBYTECODE=1 "$python" "bench/peers/$1.py" "${@:2}"; }

# take NAME: run ours and theirs (functions), alternating, each into a file a pair.
take() {
  rm -f "$tmp"/pair.*
  local i
  for ((i = 0; i < pairs; i++)); do
    if [ -t 2 ]; then printf '%s: pair %d of %d\r' "$1" $((i + 1)) "$pairs" >&2; fi
    ours > "$tmp/pair.$i.ours"
    theirs > "$tmp/pair.$i.theirs"
  done
  if [ -t 2 ]; then printf '%60s\r' '' >&2; fi
}

# value FILE PATTERN KEY: a number of the JSON object that has the pattern.
value() { tr '{' '\n' < "$1" | grep -F -- "$2" | sed -n "s/.*\"$3\":\([-+.0-9e]*\).*/\1/p" | head -n 1; }

# row LABEL KEY [PATTERN]: one line of the table from the pairs taken.
row() {
  local i
  for ((i = 0; i < pairs; i++)); do
    echo "$(value "$tmp/pair.$i.ours" "${3:-}" "$2") $(value "$tmp/pair.$i.theirs" "${3:-}" "$2")"
  done | awk -v label="$1" '
    function median(x, n,   i, j, v) {
      for (i = 2; i <= n; i++) { v = x[i]; for (j = i - 1; j > 0 && x[j] > v; j--) x[j + 1] = x[j]; x[j + 1] = v }
      return n % 2 ? x[(n + 1) / 2] : (x[n / 2] + x[n / 2 + 1]) / 2
    }
    NF == 2 && $1 > 0 { n++; a[n] = $1; b[n] = $2; r[n] = $2 / $1 }
    END {
      if (n == 0) { printf "%-44s no figures\n", label; exit 1 }
      m = median(r, n) # sorts r
      printf "%-44s %11.2f %11.2f %7.2f  [%.2f, %.2f]\n", label, median(a, n), median(b, n), m, r[1], r[n]
    }'
}

skip() { printf '%-44s skipped: %s\n' "$1" "$2"; }

# step PRESET BATCH STEPS
step() {
  local time=step_ms clock=wall
  if [ "$threads" = 1 ]; then time=cpu_ms clock=CPU; fi
  if ! has torch; then skip "step $1" "$python has no torch"; return; fi
  ours() { "$tmp/agrdist" bench step --precision "$precision" --preset "$preset" --batch "$batch" --steps "$steps" --threads "$threads" --json; }
  theirs() { peer step --preset "$preset" --batch "$batch" --steps "$steps" --threads "$threads" ${flags[@]+"${flags[@]}"}; }
  local preset=$1 batch=$2 steps=$3
  take "step $1"
  row "step $1, batch $2, $clock ms" $time
  row "step $1, batch $2, peak RSS MB" rss_mb
}

# Two workers of one thread each, 32 images a step: real runs of both sides, the median
# of their steps. What is on the images changes nothing in the work.
ddp() {
  if ! has torch; then skip ddp "$python has no torch"; return; fi
  mkdir -p "$tmp/images"
  head -c $((3073 * 64)) /dev/zero | tr '\0' '\1' > "$tmp/images/flat.bin"
  ours() {
    rm -rf "$tmp/run"
    "$tmp/agrdist" run --workers 2 --out "$tmp/run" --set train.threads=1 --set data.name=records \
      --set data.dir="$tmp/images" --set model.sample_size=32 --set model.in_channels=3 \
      --set model.block_out_channels=32,64,64 --set model.dropout=0.1 --set train.global_batch=32 \
      --set train.chunk=16 --set train.steps=10 --set sample.count=0 --set log.every=1 --set train.precision="$precision" > "$tmp/run.log" 2>&1 ||
      { cat "$tmp/run.log" >&2; return 1; }
    sed -n 's/.*"event":"step".*"step_ms":\([0-9.]*\).*/\1/p' "$tmp/run/events.jsonl" | tail -n +3 | sort -n |
      awk '{ x[NR] = $1 } END { printf "{\"step_ms\":%s}\n", NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'
  }
  theirs() { peer ddp --world 2 --batch 32 ${flags[@]+"${flags[@]}"}; }
  take ddp
  row "small, 2 workers x 1 thread, wall ms a step" step_ms
}

optimizer() {
  if ! has torch; then skip optimizer "$python has no torch"; return; fi
  ours() { "$tmp/agrdist" bench optimizer --threads "$threads" --steps 5 --json; }
  theirs() { peer optimizer --threads "$threads" --steps 5 | sed 's/foreach/fused/'; }
  take optimizer
  row "optimizer pass, 35.7M parameters, ms" time_ms '"variant":"fused"'
}

conv() {
  if ! has torch; then skip conv "$python has no torch"; return; fi
  ours() { "$tmp/agrdist" bench kernels --precision "$precision" --filter '^conv3x3' --time 500ms --threads "$threads" --json; }
  theirs() { peer conv --time 0.5 --threads "$threads" ${flags[@]+"${flags[@]}"}; }
  take conv
  local shape name
  for shape in 8x32x32x128 8x16x16x256 16x8x8x256 32x32x32x32 32x16x16x64; do
    for name in conv3x3 conv3x3.input_grad conv3x3.weight_grad; do
      row "$name $shape, ms" time_ms "\"name\":\"$name\",\"shape\":\"$shape\""
    done
  done
}

# What vectors as long as the models' gradients take between two processes.
allreduce() {
  local bytes calls
  # mpirun refuses to run as root, as CI and containers do, unless it is told twice.
  if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  for bytes in 4455820 142985228; do
    if [ $bytes -gt 100000000 ]; then calls=10; else calls=100; fi
    ours() { "$tmp/agrdist" bench allreduce -n 2 -b "$bytes" -e "$bytes" -i $calls --json; }
    if has torch; then
      theirs() { peer allreduce --world 2 --bytes "$bytes" --iterations $calls; }
      take "allreduce $bytes"
      row "all-reduce, 2 ranks, $bytes bytes, gloo, ms" time_ms
    else
      skip "all-reduce, $bytes bytes, gloo" "$python has no torch"
    fi
    if has mpi4py numpy && command -v mpirun > "$tmp/mpirun"; then
      theirs() { PYTHONDONTWRITEBYTECODE=1 mpirun -n 2 "$python" bench/peers/allreduce.py --mpi --bytes "$bytes" --iterations $calls; }
      take "allreduce $bytes"
      row "all-reduce, 2 ranks, $bytes bytes, MPI, ms" time_ms
    else
      skip "all-reduce, $bytes bytes, MPI" "no mpirun, or $python has no mpi4py"
    fi
  done
}

if has torch; then
  # A PyTorch on the reference BLAS has fast convolutions and slow matmuls.
  version=$(cd bench/peers && PYTHONDONTWRITEBYTECODE=1 "$python" -c '
import time, torch, common
torch.set_num_threads(1)
x, y = torch.randn(512, 512), torch.randn(512, 512)
rate = 2 * 512**3 / common.sample(lambda: x @ y, time.process_time, 0.2) / 1e9
print(f"PyTorch {torch.__version__} (its 512x512 product: {rate:.0f} GFLOP/s)")')
else
  version="no PyTorch"
fi
printf '# %s; agrdist %s, %d thread(s); %d pairs; peer: %s %s\n' "$(date -u +%Y-%m-%d)" \
  "$(git describe --always --dirty)" "$threads" "$pairs" "$version" "${flags[*]-}"
printf '%-44s %11s %11s %7s  %s\n' measurement agrdist peer ratio '[range]'
for name; do
  case $name in
    small) step small 32 3 ;;
    full) step full 8 2 ;;
    ddp | optimizer | conv | allreduce) "$name" ;;
    *) echo "compare.sh: no measurement $name; choose small, full, ddp, optimizer, conv, allreduce" >&2; exit 2 ;;
  esac
done
