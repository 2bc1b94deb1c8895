"""Computes what calls cost under twelve price schedules, independently of the ledger: exact fractions, month by month, call by call.

usage: price_table.py TABLE [--check]

Writes the table that `crates/ledger/tests/schedules.rs` reads; with --check it computes it anew and compares, exit code 1 when they differ. Only the
standard library is used. Each schedule is a few lines of plain arithmetic on purpose: nothing is shared with the code that it judges.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

F = Fraction
NANO = 10**9
MILLION = 10**6


class Numbers:
    """A small generator of numbers that is the same everywhere (a multiplicative congruence modulo 2**61 - 1)."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        self.state = self.state * 437799614237992725 % (2**61 - 1)
        return self.state % bound


def nanos(dollars: Fraction) -> int:
    """Whole nano-dollars, half away from zero."""
    exact = dollars * NANO
    sign = -1 if exact < 0 else 1
    return sign * ((2 * abs(exact.numerator) + exact.denominator) // (2 * exact.denominator))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * NANO


def started(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


def step(volume_before: Fraction, amount: Fraction, steps: list[tuple[int | None, Fraction]]) -> Fraction:
    """What `amount` costs after `volume_before` under graduated rates: (up to, rate), the last one without a bound."""
    cost, position, end = F(0), volume_before, volume_before + amount
    for up_to, rate in steps:
        until = end if up_to is None else min(end, F(up_to))
        if until > position:
            cost += (until - position) * rate
            position = until
    return cost


def calls_of(name: str, count: int, start: str, gap_s: int):
    numbers = Numbers(sum(ord(c) for c in name) * 1_000_003 + 7)
    when = at(start)
    for _ in range(count):
        yield numbers, when
        when += (1 + numbers.below(gap_s)) * NANO


def llm():
    """Input 2.50, cached 1.25, output 10.00, reasoning 12.00 a million."""
    for n, when in calls_of("llm", 40, "2026-11-03T10:00:00", 3000):
        usage = {"input": n.below(20_000), "cached_input": n.below(9_000), "output": n.below(4_000), "reasoning": n.below(3_001)}
        dollars = (usage["input"] * F("2.5") + usage["cached_input"] * F("1.25") + usage["output"] * 10 + usage["reasoning"] * 12) / MILLION
        yield {"at": when, "usage": usage, "target": "thinker-2026-05-13"}, dollars


def batch():
    """Input 0.15, output 0.60 a million; half of it in the tier `batch`; writes to the cache 0.1875, for an hour 0.30."""
    for n, when in calls_of("batch", 40, "2026-11-03T10:00:00", 3000):
        usage = {"input": n.below(99_999), "cache_write": n.below(5_000), "cache_write_1h": n.below(5_000), "output": n.below(10_001)}
        dollars = (usage["input"] * F("0.15") + usage["cache_write"] * F("0.1875") + usage["cache_write_1h"] * F("0.3") + usage["output"] * F("0.6")) / MILLION
        service = ["batch", None, "default"][n.below(3)]
        yield {"at": when, "usage": usage, "target": "small", "service": service}, dollars / 2 if service == "batch" else dollars


def geocoding():
    """25 free lookups a month, then 0.005 up to 60, 0.004 up to 100, 0.00333 beyond; each month begins anew."""
    used: dict[str, Fraction] = {}
    for n, when in calls_of("geocoding", 330, "2026-10-20T00:00:00", 16_000):
        month = datetime.fromtimestamp(when // NANO, timezone.utc).strftime("%Y-%m")
        status = 404 if n.below(10) == 0 else 200
        if status == 404:
            yield {"at": when, "status": 404}, F(0)
            continue
        before = used.get(month, F(0))
        used[month] = before + 1
        yield {"at": when}, step(before, F(1), [(25, F(0)), (60, F("0.005")), (100, F("0.004")), (None, F("0.00333"))])


def weather():
    """0.0015 a call, 0.0001 for a 304; errors are billed."""
    for n, when in calls_of("weather", 40, "2026-11-03T10:00:00", 3000):
        status = [200, 304, 404, 500, None][n.below(5)]
        yield {"at": when, "status": status}, F("0.0001") if status == 304 else F("0.0015")


def credits():
    """Credits told by a header, 0.00007 each; a rebate of 0.00001 per credit, told in the body, is taken off, never below nothing."""
    for n, when in calls_of("credits", 40, "2026-11-03T10:00:00", 3000):
        used, rebate = F(n.below(500), 4), n.below(1_500)
        body = {"x-credits": str(float(used))}
        if rebate >= 300:
            body["/account/rebate"] = str(rebate)
        dollars = used * F("0.00007") - (rebate if rebate >= 300 else 0) * F("0.00001")
        yield {"at": when, "amounts": body}, max(dollars, F(0))


def tiles():
    """0.0003 a KB of 1,024 bytes, by the byte, and 0.00002 a call."""
    for n, when in calls_of("tiles", 40, "2026-11-03T10:00:00", 3000):
        size = n.below(300_000)
        yield {"at": when, "bytes": size}, F(size, 1024) * F("0.0003") + F("0.00002")


def points():
    """A GraphQL API: 1,000 cost points are 0.05, each started thousand is charged, 10 thousands a month are free."""
    used = 0
    for n, when in calls_of("points", 40, "2026-11-03T10:00:00", 3000):
        cost = n.below(4_500)
        units = started(F(cost, 1000))
        yield {"at": when, "amounts": {"/extensions/cost/actual": str(cost)}}, step(F(used), F(units), [(10, F(0)), (None, F("0.05"))])
        used += units


def images():
    """0.04 an image of the large target, 0.011 one of the small; the answer's list is counted."""
    for n, when in calls_of("images", 40, "2026-11-03T10:00:00", 3000):
        count, large = n.below(11), n.below(2) == 0
        yield {"at": when, "amounts": {"/data": str(count)}, "target": "large" if large else "small"}, count * (F("0.04") if large else F("0.011"))


def audio():
    """0.006 a minute by the started second: 0.0001 a second."""
    for n, when in calls_of("audio", 40, "2026-11-03T10:00:00", 3000):
        milliseconds = n.below(600_000)
        seconds = Decimal(milliseconds) / 1000
        whole = int(seconds.to_integral_value(rounding=ROUND_CEILING))
        yield {"at": when, "amounts": {"/duration": str(seconds)}}, whole * F("0.006") / 60


def minimum():
    """0.0001 for each of 3 started KB-likes of 300 units, but 0.0005 a call at least."""
    for n, when in calls_of("minimum", 40, "2026-11-03T10:00:00", 3000):
        units = n.below(5_000)
        yield {"at": when, "amounts": {"/units": str(units)}}, max(F(units, 300) * F("0.0001"), F("0.0005"))


def currency():
    """0.0019 EUR a call and 0.7 EUR a million units, at 1.0823 dollars for a euro: rounded once, in dollars."""
    for n, when in calls_of("currency", 40, "2026-11-03T10:00:00", 3000):
        units = n.below(100_000)
        yield {"at": when, "amounts": {"/units": str(units)}}, (F("0.0019") + units * F("0.7") / MILLION) * F("1.0823")


def midnight():
    """0.002 a call; from 2026-12-01 00:00 UTC 0.003; from 2026-12-01 12:00 at +02:00, which is 10:00 UTC, 0.0025; before November unpriced."""
    for text, dollars in [
        ("2026-10-31T23:59:59", None),
        ("2026-11-01T00:00:00", F("0.002")),
        ("2026-11-30T23:59:59", F("0.002")),
        ("2026-12-01T00:00:00", F("0.003")),
        ("2026-12-01T09:59:59", F("0.003")),
        ("2026-12-01T10:00:00", F("0.0025")),
        ("2027-06-01T00:00:00", F("0.0025")),
    ]:
        yield {"at": at(text)}, dollars


SCHEDULES = [llm, batch, geocoding, weather, credits, tiles, points, images, audio, minimum, currency, midnight]


def table() -> str:
    lines = []
    for schedule in SCHEDULES:
        for call, dollars in schedule():
            row = {"schedule": schedule.__name__, **call, "nanos": None if dollars is None else nanos(dollars)}
            lines.append(json.dumps(row, separators=(",", ":")))
    return "\n".join(lines) + "\n"


def main() -> int:
    path, check = sys.argv[1], "--check" in sys.argv[2:]
    computed = table()
    if not check:
        with open(path, "w", encoding="utf-8") as out:
            out.write(computed)
        return 0
    with open(path, encoding="utf-8") as committed:
        if committed.read() == computed:
            return 0
    print(f"{path} is not what tests/python/price_table.py computes", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
