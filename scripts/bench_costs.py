#!/usr/bin/env python3
"""The questions of the example `costs` of farthing-ledger, put to DuckDB on the same files: bench_costs.py DIR FARTHING.json OUT.json.

Compares the sums, which must be equal, and writes both sides' seconds and memory.
"""

import json
import resource
import statistics
import sys
import time

import duckdb

ROUNDS = 5
QUESTIONS = {
    "team,route": ("team, route", "true"),
    "tenant": ("tenant", "true"),
    "route by day, one provider": ("route, ts_ns // 86400000000000", "provider = 'provider-1'"),
    "tag": ("regexp_extract(tags, 'city=([^,]*)', 1)", "true"),
}


def main() -> None:
    folder, theirs, out = sys.argv[1:]
    db = duckdb.connect()
    calls_tag = "tags" if "tags" in columns(db, folder, "calls") else None
    told = []
    for name, (by, where) in QUESTIONS.items():
        of_calls = by if "tags" not in by or calls_tag else "1"
        seconds, bill, base, busy = [], 0, 0, cpu()
        for _ in range(ROUNDS):
            started = time.perf_counter()
            requests = db.execute(
                f"""select {by}, sum(weight), sum(case when outcome in ('hit', 'stale', 'follow') then weight end),
                    sum(case when outcome = 'failed' then weight end), sum(weight * base_nanousd), sum(weight * cost_nanousd),
                    sum(case when saved_by is not null then weight * (base_nanousd - cost_nanousd) end),
                    sum(case when base_nanousd is null or cost_nanousd is null then weight end)
                    from read_parquet('{folder}/requests/*/*/*.parquet') where {where} group by all"""
            ).fetchall()
            calls = db.execute(
                f"""select {of_calls}, count(*) filter (sent and (batch_id is null or batch_id = call_id)), sum(cost_nanousd), sum(cost_nanousd) filter (purpose <> 'user'),
                    count(*) filter (cost_nanousd is null)
                    from read_parquet('{folder}/calls/*/*/*.parquet') where {where} group by all"""
            ).fetchall()
            seconds.append(time.perf_counter() - started)
            base = sum(int(row[-4] or 0) for row in requests)
            bill = sum(int(row[-3] or 0) for row in calls)
        told.append({"question": name, "bill_nanousd": str(bill), "base_nanousd": str(base), "median_s": statistics.median(seconds), "cpu_s": (cpu() - busy) / ROUNDS})
    ours = json.load(open(theirs))
    for mine, other in zip(ours["questions"], told):
        for sum_of in ("bill_nanousd", "base_nanousd"):
            if mine[sum_of] != other[sum_of]:
                sys.exit(f"{mine['question']}: {sum_of} is {mine[sum_of]} here and {other[sum_of]} in DuckDB")
        wall = f"farthing {mine['median_s']:.2f} s, DuckDB {other['median_s']:.2f} s"
        print(f"{mine['question']:<28} {wall}; on processors {mine['cpu_s']:.2f} s, {other['cpu_s']:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    duck = {"engine": f"duckdb {duckdb.__version__}", "peak_memory": f"{peak} kB", "questions": told}
    json.dump({"farthing": ours, "duckdb": duck}, open(out, "w"), indent=2)
    print(f"memory: farthing {ours['peak_memory']}, DuckDB with Python {peak} kB; sums are equal")


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def columns(db: duckdb.DuckDBPyConnection, folder: str, table: str) -> list[str]:
    rows = db.execute(f"describe select * from read_parquet('{folder}/{table}/*/*/*.parquet')").fetchall()
    return [row[0] for row in rows]


if __name__ == "__main__":
    main()
