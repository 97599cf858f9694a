#!/usr/bin/env bash
# What is to be measured on a machine with an NVIDIA GPU. NOT RUN YET: no GPU was to be had. From the repository:
#
#     bash docs/gpu/measure.sh [CIFAR_FOLDER]      # cifar-10-batches-bin, for the short search
#
# Needs Rust, the driver, NVRTC and the CUDA headers (docs/cluster.md says how to have them without root), and for the
# comparison a python3 whose PyTorch uses the GPU (PYTHON names another one). Takes about half an hour; what it prints
# belongs into docs/measurements, its summary into docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-target}
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step 'the machine'
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
cargo build --release --workspace --features trainer/cuda --locked
cargo build --release -p trainer --features cuda --example throughput --locked

step 'the same as on the CPU, to tolerance; a training that goes on after a warning; memory that does not suffice'
cargo test --release -p trainer --features cuda --test gpu --locked -- --ignored --test-threads 1 --nocapture

step 'training, beside PyTorch with channels last: Shake-Shake-26 2x32d (widened by 2) and 2x96d (by 6)'
for round in 1 2 3; do
    for widen in 2 6; do
        for batch in 64 128; do
            shape=(--filters 16 --blocks 4 --branches 2 --size 32 --widen "$widen" --batch "$batch" --seconds 20)
            printf 'round %s, widened by %s, batches of %s\n' "$round" "$widen" "$batch"
            printf '  tandem fp32:  '
            "$target/release/examples/throughput" "${shape[@]}" --device cuda
            for precision in fp32 tf32 bf16; do
                printf '  pytorch %s: ' "$precision"
                "$python" docs/pytorch/throughput.py "${shape[@]}" --device cuda --precision "$precision"
            done
        done
    done
done

[ $# -ge 1 ] || { step 'no folder with CIFAR-10 was given: no search'; exit 0; }
step 'a short search on CIFAR-10'
search=$(mktemp -d)
"$python" - "$1" "$search" <<'PYTHON'
import json, os, sys
data, folder = map(os.path.abspath, sys.argv[1:])
search = json.load(open("data/searches/joint-cifar10.json"))
search["space_file"] = os.path.abspath("data/spaces/joint-resnet.json")
search["objective"]["network"]["data"]["path"] = data
search["budget"] = {"unit": "seconds", "min": 5, "max": 45, "eta": 3}
search["limit"] = {"brackets": 1}
json.dump(search, open(os.path.join(folder, "search.json"), "w"))
PYTHON
"$target/release/scheduler" local "$search/search.json" "$search/directory" --trainers 1
"$target/release/sampler" replay "$search/directory"
echo "the search is in $search/directory"
