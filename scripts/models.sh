#!/usr/bin/env bash
# Builds the shipped predictors again: the same recipe and seed give the same bytes on the same kind of machine.
set -euo pipefail
cd "$(dirname "$0")/.."

train="${FARTHING_TRAIN:-target/debug/farthing-train}"
rm -rf models/ttl models/strategy models/cost models/prefetch models/aliases.json
"$train" fit ttl --recipe data/demo.toml --seed 7 --out models
"$train" fit strategy --recipe data/services.toml --seed 11 --out models
"$train" fit cost --recipe data/services.toml --seed 11 --out models
"$train" fit prefetch --recipe data/sessions.toml --seed 7 --out models --promote champion
rm -f models/.aliases.lock
