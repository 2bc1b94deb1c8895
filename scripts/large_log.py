#!/usr/bin/env python3
"""Writes a large request log for measurements: large_log.py DIR CALLS [REQUESTS_PER_CALL].

Keys by popularity over 20 routes and 30 days, answers that change at rates of their own. The files have the columns that the trainer
reads, as of schema version 1 (features are not logged, so all are computed anew). The same arguments give the same log.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KEYS, ROUTES, DAYS, PART = 50_000, 20, 30, 500_000
START = 1_767_225_600_000_000_000


def write(root: Path, table: str, part: int, columns: dict) -> None:
    path = root / table / "date=2026-01-01" / "hour=00" / f"part-{part:05}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"farthing.table": table, "farthing.schema_version": "1"}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, compression="zstd")


def main() -> None:
    root, calls = Path(sys.argv[1]), int(float(sys.argv[2]))
    requests = calls * int(sys.argv[3]) if len(sys.argv) > 3 else calls
    rng = np.random.default_rng(1)
    period = 60e9 * 1_000 ** rng.random(KEYS)
    names = np.array([f"route-{n:02}" for n in range(ROUTES)])

    def keys(count):
        return (KEYS ** rng.random(count) - 1).astype(np.uint64)

    def times(part, size, whole):
        span = DAYS * 86_400e9 / whole
        return START + ((part + np.sort(rng.random(size)) * size) * span).astype(np.int64)

    for first in range(0, calls, PART):
        size = min(PART, calls - first)
        key, at = keys(size), times(first, size, calls)
        version = (at / period[key]).astype(np.uint64) * np.uint64(2_654_435_761) + key
        number = np.arange(first, first + size, dtype=np.uint64)
        none = lambda kind: pa.nulls(size, kind)
        write(root, "calls", first // PART, {
            "ts_ns": at, "call_id": number, "attempt": np.zeros(size, np.int32), "route": names[key % ROUTES], "key_hash": key,
            "status": np.full(size, 200, np.int32), "bytes_in": (500 + key % 9_000).astype(np.int64), "canonical_hash": version,
            "prev_canonical_hash": none(pa.uint64()), "validator_changed": none(pa.bool_()), "last_modified_ns": none(pa.int64()),
            "origin_ttl_s": none(pa.int64()), "decision_id": none(pa.uint64()), "cost_nanousd": np.full(size, 2_000_000, np.int64),
        })
    for first in range(0, requests, PART):
        size = min(PART, requests - first)
        key, at = keys(size), times(first, size, requests)
        write(root, "requests", first // PART, {
            "ts_ns": at, "request_id": np.arange(first, first + size, dtype=np.uint64), "weight": np.ones(size, np.int64),
            "route": names[key % ROUTES], "key_hash": key, "outcome": np.full(size, "lead"),
        })


if __name__ == "__main__":
    main()
