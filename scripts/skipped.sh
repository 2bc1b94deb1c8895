#!/usr/bin/env bash
# The one list of what was skipped, with the reason of each. With STRICT=1 a skip is a failure.
set -euo pipefail
list=$(cat target/skipped.txt target/deps-missing.txt 2>/dev/null | sort -u || true)
if [ -z "$list" ]; then
  echo "skipped: nothing"
  exit 0
fi
echo "skipped:"
sed 's/^/  - /' <<<"$list"
if [ "${STRICT:-0}" = 1 ]; then
  # Real traces are optional by design: they are not part of the project.
  required=$(grep -v '^optional: ' <<<"$list" || true)
  [ -z "$required" ] || { echo "STRICT=1: the above must not be skipped"; exit 1; }
fi
