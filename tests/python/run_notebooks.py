"""Runs the notebooks' code cells, in order and without Jupyter, over a request log.

usage: run_notebooks.py [LOG_DIR] [--farthing target/debug/farthing] [--report FILE] [--keep DIR] [--trials] [--show]

Without LOG_DIR it makes a log first: a short real run of `farthing serve` before an upstream of ours, with an experiment and a holdout. Then what
the notebooks find must agree with what was asked of the proxy and with the proxy's own report. --report is the file of `farthing experiments show
NAME --json` that belongs to LOG_DIR. --trials reads nothing but the exports of the experiments in tests/scenarios/trials. --show prints what a notebook would display. Exit code 1 with the reason when something does not hold.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import http.client
import http.server
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
TRIALS = ROOT / "target" / "results" / "trials"
PRICE = 0.002
RUN_SECONDS, LONGEST_SECONDS = 14.0, 60.0
ENOUGH = 1_400  # requests, on a slow machine the reason to go on
WORKERS, KEYS = 4, 40
CONFIG = """
state_dir = "{dir}/state"
seed = 7
[data]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[log]
dir = "{dir}/logs"
[models]
dir = "{dir}/models"
[holdout]
share = 0.1
window = "500ms"
[providers.sim]
base_url = "http://127.0.0.1:{port}"
price = "0.002"
[routes.plain]
provider = "sim"
base_ttl = "2s"
[routes.tried]
provider = "sim"
min_ttl = "10ms"
base_ttl = "40ms"
max_ttl = "250ms"
price_stale = "0.001"
[experiments.longer]
hypothesis = "a longer TTL is cheaper"
routes = ["tried"]
window = "500ms"
slice = 1.0
ramp = [1.0]
min_units = 10
[[experiments.longer.variants]]
name = "short"
ttl = "rule"
[[experiments.longer.variants]]
name = "long"
ttl = "fixed:1s" # as far as max_ttl allows
"""


class Disagreement(Exception):
    """Something does not hold."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Disagreement(what)


class Upstream(http.server.BaseHTTPRequestHandler):
    """Documents that change about every second, each at its own moment; /plain/forbidden may not be stored."""

    protocol_version = "HTTP/1.1"
    calls = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        with Upstream.lock:
            Upstream.calls += 1
        moment = time.time() + hash(self.path) % 1000 / 1000
        body = json.dumps({"path": self.path, "version": int(moment)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if "forbidden" in self.path:
            self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@dataclass
class Run:
    """What a run of the proxy left behind."""

    log: Path
    report: Path | None = None
    rows: Path | None = None
    requests: int = 0
    calls: int = 0
    known: bool = False
    problems: list[str] = field(default_factory=list)


def ask(data: str, worker: int, run: Run, lock: threading.Lock) -> None:
    """One client: keys by popularity, one request after the other over one connection, until the time is over and enough was asked."""
    draw = random.Random(worker)
    weights = [1 / (rank + 1) ** 0.6 for rank in range(KEYS)]
    host, port = data.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    start = time.monotonic()
    while (passed := time.monotonic() - start) < RUN_SECONDS or (run.requests < ENOUGH and passed < LONGEST_SECONDS):
        key = draw.choices(range(KEYS), weights)[0]
        path = "/r/plain/forbidden" if draw.random() < 0.02 else f"/r/{draw.choice(['plain', 'tried', 'tried', 'tried'])}/{key}"
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        with lock:
            run.requests += 1
            if answer.status != 200:
                run.problems.append(f"{path}: status {answer.status}")
        time.sleep(0.01)  # a client that thinks: what makes rates of some per second and key
    connection.close()


def drive(data: str, run: Run) -> None:
    lock = threading.Lock()
    clients = [threading.Thread(target=ask, args=(data, worker, run, lock)) for worker in range(WORKERS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def serve(farthing: Path, directory: Path, run: Run) -> None:
    """Runs the proxy for as long as clients ask, and keeps its report of the experiment."""
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    upstream.daemon_threads = True
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    config = directory / "farthing.toml"
    config.write_text(CONFIG.format(dir=directory, port=upstream.server_address[1]))
    environment = {name: value for name, value in os.environ.items() if name not in ("FARTHING_CONFIG", "FARTHING_ADMIN", "FARTHING_ADMIN_TOKEN")}
    with (directory / "stderr").open("w") as stderr:
        proxy = subprocess.Popen([farthing, "serve", "--config", config], stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True)
    try:
        assert proxy.stdout is not None
        greeting = proxy.stdout.readline()
        require("answers at http://" in greeting, f"no greeting: {greeting!r} {(directory / 'stderr').read_text()}")
        data, admin = (greeting.split(mark)[1].split(";")[0].strip() for mark in ("answers at http://", "admin API at "))
        drive(data, run)

        def experiments(*words: object) -> str:
            done = subprocess.run([farthing, "experiments", *map(str, words), "--admin", admin], capture_output=True, text=True, env=environment)
            require(done.returncode == 0, f"experiments {words}: {done.stderr}")
            return done.stdout

        # Stopped, so that no row comes between report and export.
        experiments("stop", "longer", "--reason", "the notebooks read it")
        run.report, run.rows = directory / "report.json", directory / "rows.csv"
        run.report.write_text(experiments("show", "longer", "--json"))
        experiments("export", "longer", "--out", run.rows)
    finally:
        proxy.terminate()
        proxy.communicate()
        upstream.shutdown()
        upstream.server_close()
    require(proxy.returncode == 0, f"farthing serve ended with {proxy.returncode}: {(directory / 'stderr').read_text()}")
    run.calls, run.known = Upstream.calls, True


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells; a notebook in the repository has no outputs."""
    document = json.loads(notebook.read_text())
    require(document["nbformat"] == 4, f"{notebook.name}: nbformat is not 4")
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        require(not cell["outputs"] and cell["execution_count"] is None, f"{notebook.name}, cell {cell['id']}: has outputs; strip them")
    require(any("parameters" in cell["metadata"].get("tags", []) for cell in code), f"{notebook.name}: no cell is tagged `parameters`")
    return code


def execute(notebook: Path, parameters: dict[str, Any], show: bool) -> dict[str, Any]:
    """Runs the cells in one namespace; the last expression of each is what a notebook displays."""
    names: dict[str, Any] = {"__name__": notebook.stem}
    for cell in cells(notebook):
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(tree, f"{notebook.name}#{cell['id']}", "exec"), names)
                if last is not None:
                    shown = eval(compile(ast.Expression(last.value), f"{notebook.name}#{cell['id']}", "eval"), names)
                    if shown is not None:
                        print(shown)
        except Exception as error:
            raise Disagreement(f"{notebook.name}, cell {cell['id']}: {type(error).__name__}: {error}") from error
        if show:
            print(printed.getvalue(), end="")
        if "parameters" in cell["metadata"].get("tags", []):
            names.update(parameters)
    return names


def check_exploration(names: dict[str, Any], run: Run) -> None:
    """The tables agree with each other and, where we drove the proxy, with what we did."""
    money, requests = names["money"], names["requests"]
    require(money["requests"].sum() == requests["weight"].sum(), "requests by route do not sum to all")
    saved = names["saved"]["saved_usd"].sum()
    require(saved >= 0, f"negative saving by cause: {saved}")
    if not run.known:
        return
    require(not run.problems, "; ".join(run.problems[:3]))
    require(money["requests"].sum() == run.requests, f"{money['requests'].sum()} requests in the log, {run.requests} were sent")
    require(money["calls"].sum() == run.calls, f"{money['calls'].sum()} calls in the log, the upstream saw {run.calls}")
    unpriced = money["unpriced"].sum()
    require(unpriced == 0, f"{unpriced} of {run.requests} requests have no price")
    for column, count in (("base_usd", run.requests - unpriced), ("bill_usd", run.calls)):
        require(abs(money[column].sum() - count * PRICE) < 1e-6, f"{column} is {money[column].sum()}, expected {count * PRICE}")
    difference = (money["base_usd"] - money["bill_usd"]).sum() + unpriced * PRICE
    require(abs(saved - difference) < 1e-6, f"savings by cause are {saved}, base - bill is {difference}")
    require(names["not_stored"].filter(names["pl"].col("not_stored_reason") == "origin-no-store")["calls"].sum() > 0, "no-store is not among the reasons")
    require(0 < names["changes"].filter(names["pl"].col("route") == "tried")["changed_share"].item() < 1, "answers never or always change")
    require({"override:fixed", "fallback:no-model"} <= set(names["deciders"]["by"]), f"deciders: {set(names['deciders']['by'])}")


def check_experiment(names: dict[str, Any], run: Run) -> None:
    """The effect from the log is the one that the proxy reports."""
    if run.report is None:
        return
    report = json.loads(run.report.read_text())["report"]
    theirs = {variant["name"]: variant for variant in report["variants"]}
    for row in names["by_variant"].iter_rows(named=True):
        for mine, own in (("unit_windows", "unit_windows"), ("requests", "requests"), ("bill_usd", "bill_usd")):
            wanted = theirs[row["variant"]][own]
            # A request that was settled after the next window's burn-in is in the log but not in the report.
            require(abs(row[mine] - wanted) <= max(0.03 * wanted, 3), f"{row['variant']}, {mine}: {row[mine]} in the log, {wanted} reported")
    for comparison in report["comparisons"]:
        ours, reported = names["estimates"].get(comparison["variant"]), comparison["effect_usd"]
        require((ours is None) == (reported is None) or comparison["note"] is not None, f"{comparison['variant']}: one of the two has no estimate")
        if ours is None or reported is None:
            continue
        half = (reported["high"] - reported["low"]) / 2
        for mine, own in (("effect_usd", "point"), ("low_usd", "low"), ("high_usd", "high")):
            require(abs(ours[mine] - reported[own]) < 0.25 * half, f"{comparison['variant']}, {own}: {ours[mine]} from the log, {reported[own]} reported")
    if run.known:
        require(report["comparisons"][0]["effect_usd"] is not None, f"no effect was reported: {report['comparisons'][0]['note']}")


def check_recomputed(run: Run, show: bool) -> None:
    """What the rows give is what the product says, to nine digits."""
    assert run.report is not None
    names = execute(NOTEBOOKS / "05-recompute-an-experiment.ipynb", {"ROWS": str(run.rows), "REPORT": str(run.report)}, show)
    report = json.loads(run.report.read_text())["report"]
    require(len(names["rows"]) == sum(v["unit_windows"] for v in report["variants"]), "rows are missing in the export")
    for comparison in report["comparisons"]:
        mine, theirs = names["found"][comparison["variant"]], comparison["effect_usd"]
        require(theirs is not None, f"{comparison['variant']}: no effect was reported: {comparison['note']}")
        require(mine is not None and mine["rows"] == comparison["rows"], f"{comparison['variant']}: {mine} of {comparison['rows']} rows")
        theirs = {**theirs, "unweighted": comparison["unweighted_usd"]}
        for what, value in theirs.items():
            require(abs(mine[what] - value) <= 1e-9 * max(abs(value), 1e-6), f"{comparison['variant']}, {what}: {mine[what]} recomputed, {value} reported")


def run_trials(show: bool) -> None:
    """The exports that the trials in tests/scenarios have left, where they have run."""
    reports = sorted(TRIALS.glob("*.json"))
    if not reports:
        skipped("05-recompute-an-experiment over the trials: none has run (cargo test -p farthing-tests --test scenarios trials)")
        return
    for report in reports:
        run = Run(TRIALS, report, report.with_suffix(".csv"))
        try:
            check_recomputed(run, show)
        except Disagreement as error:
            raise Disagreement(f"trial {report.stem}: {error}") from error
    print(f"trials: {len(reports)} exports and reports agree")


WORLD = """
seed = 1
start_s = 1767225600
duration_s = 86400.0
rate = 0.15
zipf = 0.9
stale_price = "0.02"
[[routes]]
name = "steady"
keys = 40
weight = 1.0
price = "0.002"
bytes = 900
latency_ms = 10
process = { kind = "never" }
[[routes]]
name = "moving"
keys = 40
weight = 1.0
price = "0.002"
bytes = 900
latency_ms = 10
process = { kind = "poisson", mean_interval_s = 3000.0, sigma = 1.0 }
"""


def check_model(names: dict[str, Any]) -> None:
    """The pictures show what the model does."""
    require(names["ranked"][0][1] > 0, "no feature moves the model")
    require(all("NaN" not in picture.svg and "nan" not in picture.svg for picture in [names["importance"], *names["responses"].values()]), "a picture holds no numbers")


def skipped(why: str) -> None:
    """Says what was not tested, also in the list at the end of `make test`."""
    print(f"SKIPPED: {why}", file=sys.stderr)
    with contextlib.suppress(OSError), (ROOT / "target" / "skipped.txt").open("a") as skips:
        skips.write(f"notebooks: {why}\n")


def run_bring_your_own(train: Path, show: bool) -> None:
    library = os.environ.get("FARTHING_ONNXRUNTIME") or str(ROOT / "target" / "onnxruntime")
    if not train.is_file() or not Path(library).exists():
        skipped("04-bring-your-own: no trainer or no ONNX Runtime library (make trainer deps)")
        return
    os.environ["FARTHING_ONNXRUNTIME"] = library
    with tempfile.TemporaryDirectory(prefix="farthing-own-") as directory:
        world = Path(directory) / "world.toml"
        world.write_text(WORLD)
        source = ["--recipe", str(world)]
        names = execute(NOTEBOOKS / "04-bring-your-own.ipynb", {"TRAIN": str(train), "SOURCE": source, "OUT": directory, "AGAINST": None}, show)
        require(names["gains"][1] < names["gains"][0], f"the model learned nothing: {names['gains']}")
        require(len(names["packed"]["judgement"]["checks"]) >= 10, "the gate did not judge")
        require((Path(directory) / "models" / "ttl" / "1" / "trees.bin").is_file(), "its trees were not read back")


def run_notebooks(run: Run, show: bool) -> None:
    log, report = str(run.log), None if run.report is None else str(run.report)
    check_exploration(execute(NOTEBOOKS / "01-explore-a-log.ipynb", {"LOG_DIR": log}, show), run)
    check_experiment(execute(NOTEBOOKS / "02-read-an-experiment.ipynb", {"LOG_DIR": log, "REPORT": report}, show), run)
    if run.rows is not None:
        check_recomputed(run, show)
    check_model(execute(NOTEBOOKS / "03-inspect-a-model.ipynb", {"MODELS": str(ROOT / "models")}, show))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", nargs="?", type=Path, metavar="LOG_DIR")
    parser.add_argument("--farthing", type=Path, default=ROOT / "target" / "debug" / "farthing")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the log in this new folder and leave it there")
    parser.add_argument("--trials", action="store_true", help="read the exports of the trials alone")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    try:
        if args.trials:
            run_trials(args.show)
        elif args.log:
            run_notebooks(Run(args.log, args.report), args.show)
        else:
            with contextlib.ExitStack() as stack:
                directory = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farthing-notebooks-")))
                directory.mkdir(parents=True, exist_ok=True)
                run = Run(directory / "logs")
                serve(args.farthing.resolve(), directory, run)
                run_notebooks(run, args.show)
                run_bring_your_own(args.farthing.resolve().with_name("farthing-train"), args.show)
                run_trials(args.show)
                print(f"notebooks: {run.requests} requests, {run.calls} calls, log and report agree")
    except (Disagreement, OSError) as error:
        print(f"run_notebooks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
