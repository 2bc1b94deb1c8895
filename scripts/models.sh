#!/usr/bin/env bash
# Builds the shipped predictors again: the same recipe and seed give the same bytes on the same kind of machine.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf models/ttl models/aliases.json
"${FARTHING_TRAIN:-target/debug/farthing-train}" fit ttl --recipe data/demo.toml --seed 7 --out models
rm -f models/.aliases.lock
