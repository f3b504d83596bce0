"""What waiting costs, from the simulator: time lost, calls, transitions, dollars, of one restore and of 200 at once, beside waits of a fixed
length. Prints the tables, and with --page puts them into the page, with a plot beside it.

    waits.py --sim target/release/sim [--page docs/performance.md]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from cold_page import table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "infra"))

from costs import database_units, memory_gb  # noqa: E402

BEGIN, END = "<!-- waiting: written by make bench-waits, do not edit -->", "<!-- end of waiting -->"
PLOT = "time-lost.svg"
PRICES = json.loads((ROOT / "infra" / "prices.json").read_text())
OURS, EACH_MINUTE, SWAP, SWAP_EACH_MINUTE = "aurora-restore", "every 60 s", "swap", "swap, every 60 s"
# What has to be better than which.
COMPARED = {OURS: EACH_MINUTE, SWAP: SWAP_EACH_MINUTE}
OF_KINDS = "100 GB"
LOST_SECONDS, LOST_PART, TRANSITIONS, CENTS = 20, 1 / 4, 120, 1
COPIES, RDS_CALLS_A_SECOND = 5, 10
# Of each restore of a crowd.
EACH = ["lost, min", "calls to RDS", "calls", "writes", "invocations", "GB s", "transitions", "events", "cents"]
# What the simulator tells apart of `function_ms`: the time of who has more memory.
OF_THAT = {"setup-db-users": "setup_ms"}
COLOURS = {
    OURS: "#2b6cb0", SWAP: "#6b46c1", "the first time": "#63b3ed", "no events": "#38a169", "no events, the first time": "#9ae6b4",
    EACH_MINUTE: "#dd6b20", "swap, no events": "#b794f4", SWAP_EACH_MINUTE: "#9b2c2c", "30 and 60 s": "#f6ad55",
}  # fmt: skip


def lines(sim, what):
    """The simulator's answers, one for each line."""
    told = subprocess.run([sim, what], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in told.splitlines()]


def gb_seconds(taken):
    """Each function's time by its memory."""
    more, usual = memory_gb()
    return (taken["function_ms"] * usual + sum(taken[OF_THAT[step]] * (gb - usual) for step, gb in more.items())) / 1000


def cents(taken):
    """What a restore costs in cents, without what is stored and transferred."""
    price = PRICES["prices"]
    writes, reads = database_units(PRICES, taken["transactions"], taken["writes"], taken["reads"])
    dollars = taken["transitions"] * price["states_transition"] + taken["invocations"] * price["lambda_request"]
    dollars += gb_seconds(taken) * price["lambda_gb_second_arm64"] + writes * price["dynamodb_write_unit"] + reads * price["dynamodb_read_unit"]
    return 100 * (dollars + PRICES["measured"]["secret_calls"] * (price["secret_call"] + price["kms_call"]))


def restores_table(restores):
    head = ["Size", "Waiting", "takes, min", "away, min", "lost, s", "calls to RDS", "in the busiest second", "calls", "writes", "invocations", "GB s", "transitions", "events", "cents"]
    rows = [
        [
            line["size"], line["waiting"], taken["seconds"] // 60, f"{taken['downtime'] / 60:.1f}", taken["lost"], taken["rds_calls"], taken["peak_rds_calls"], taken["calls"], taken["transactions"] + taken["writes"],
            taken["invocations"], f"{gb_seconds(taken):.1f}", taken["transitions"], taken["events"], f"{cents(taken):.2f}",
        ]
        for line in restores for taken in [line["taken"]]
    ]  # fmt: skip
    return table(head, rows)


def kinds_table(restores):
    """Calls by kind, of those ways to wait that are compared most."""
    of = {line["waiting"]: line["calls_by_kind"] for line in restores if line["size"] == OF_KINDS}
    return calls_table(of, [OURS, EACH_MINUTE, SWAP, SWAP_EACH_MINUTE])


def calls_table(of, columns):
    kinds = sorted({kind for name in columns for kind in of[name]})
    return table(["Call", *columns], [[kind, *(of[name].get(kind, 0) for name in columns)] for kind in kinds])


def crowd_kinds_table(crowds):
    of = {line["waiting"]: line["calls_by_kind"] for line in crowds if line["size"] == crowds[0]["size"]}
    return calls_table(of, list(of))


def crowds_table(crowds):
    head = ["Size", "Waiting", "succeeded", "copies at once", "calls to RDS of one Region in its busiest second", "first ends, h", "last ends, h", "most transitions", *EACH]
    rows = [
        [
            line["size"], line["waiting"], f"{crowd['succeeded']} of {crowd['restores']}", crowd["most_copies"], crowd["peak_rds_calls"],
            f"{crowd['first'] / 3600:.1f}", f"{crowd['last'] / 3600:.1f}", crowd["most_transitions"], f"{taken['lost'] / 60:.1f}",
            taken["rds_calls"], taken["calls"], taken["transactions"] + taken["writes"], taken["invocations"], f"{gb_seconds(taken):.1f}",
            taken["transitions"], taken["events"], f"{cents(taken):.2f}",
        ]
        for line in crowds for crowd in [line["crowd"]] for taken in [crowd["taken"]]
    ]  # fmt: skip
    return table(head, rows)


def misses(restores, crowds):
    """Every target that was missed, in words."""
    missed = []
    of = {(line["size"], line["waiting"]): line["taken"] for line in restores}
    for size in dict.fromkeys(line["size"] for line in restores):
        for mine, other in COMPARED.items():
            what, ours, theirs = f"{size}, {mine}", of[size, mine], of[size, other]
            limit = min(LOST_SECONDS, LOST_PART * theirs["lost"])
            if ours["lost"] > limit:
                missed.append(f"{what}: {ours['lost']} s lost, not {limit:.0f}")
            for key, name in (("rds_calls", "calls to RDS"), ("calls", "calls")):
                if ours[key] > theirs[key]:
                    missed.append(f"{what}: {ours[key]} {name}, looks every 60 s make {theirs[key]}")
            if ours["seconds"] <= 3600 and (ours["transitions"] > TRANSITIONS or cents(ours) > CENTS):
                missed.append(f"{what}: {ours['transitions']} transitions and {cents(ours):.2f} cents, not {TRANSITIONS} and {CENTS}")
    for line in crowds:
        crowd = line["crowd"]
        if line["waiting"] == OURS and (crowd["succeeded"] < crowd["restores"] or crowd["most_copies"] > COPIES or crowd["peak_rds_calls"] > RDS_CALLS_A_SECOND):
            missed.append(f"{crowd['restores']} of {line['size']} at once: {crowd['peak_rds_calls']} calls to RDS of one Region in its busiest second, not {RDS_CALLS_A_SECOND}")
    return missed


def verdict(restores, crowds):
    missed = misses(restores, crowds)
    return "All targets are met." if not missed else "Missed:\n\n" + "\n".join(f"- {miss}" for miss in missed)


def section(restores, crowds):
    return "\n".join([
        BEGIN,
        "One restore, medians of twenty:",
        "",
        restores_table(restores),
        "",
        f"![Seconds lost by waiting, by size and strategy]({PLOT})",
        "",
        f"The calls of one restore of {OF_KINDS} by kind, the first of the twenty:",
        "",
        kinds_table(restores),
        "",
        "200 restores of 200 clusters by 200 deployments, each with a state table of its own, all begun in the same moment, with one `RDS_CALLS_TABLE_NAME` and `RDS_CALLS_PER_SECOND` set to 10:",
        "",
        crowds_table(crowds),
        "",
        "From *lost* on it is each restore's, the mean of all: what it ended later than it could have, with the copies five by five and each phase taken notice of at the very moment.",
        "",
        f"The calls of all 200 of {crowds[0]['size']} by kind:",
        "",
        crowd_kinds_table(crowds),
        "",
        "`make bench-waits`",
        "",
        f"Targets: at most {LOST_SECONDS} s lost and a quarter of what looks every 60 s lose, with no more calls; a restore of at most an hour with {TRANSITIONS} transitions",
        f"and {CENTS} cent; of 200 at once all succeed, {COPIES} copies at once, {RDS_CALLS_A_SECOND} calls to RDS a second.",
        verdict(restores, crowds),
        END,
    ])  # fmt: skip


def plot(restores):
    """A bar for each size and strategy: seconds lost."""
    left, right, top, bar, gap = 70, 200, 82, 13, 14
    sizes = list(dict.fromkeys(line["size"] for line in restores))
    width, row = 900, (bar + 2) * len(COLOURS) + gap
    scale = (width - left - right) / max(line["taken"]["lost"] for line in restores)
    height = top + row * len(sizes) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="12" y="20" font-size="14">Seconds that a restore loses by waiting (medians, simulated)</text>',
    ]
    x, y = 12, 31
    for name, colour in COLOURS.items():
        wide = 28 + int(6.3 * len(name))
        if x + wide > width:
            x, y = 12, y + 18
        out.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/><text x="{x + 16}" y="{y + 10}">{name}</text>')
        x += wide
    for number, size in enumerate(sizes):
        y = top + number * row
        out.append(f'<text x="{left - 8}" y="{y + row / 2 - gap / 2 + 4:.0f}" text-anchor="end">{size}</text>')
        for place, line in enumerate(line for line in restores if line["size"] == size):
            lost, spot = line["taken"]["lost"], y + place * (bar + 2)
            out.append(f'<rect x="{left}" y="{spot}" width="{lost * scale:.1f}" height="{bar}" fill="{COLOURS[line["waiting"]]}"/>')
            out.append(f'<text x="{left + lost * scale + 5:.1f}" y="{spot + bar - 3}">{lost}</text>')
    x = left + LOST_SECONDS * scale
    out.append(f'<line x1="{x:.1f}" y1="{top - 8}" x2="{x:.1f}" y2="{height - 10}" stroke="#2b6cb0" stroke-dasharray="4 3"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sim", default=ROOT / "target" / "release" / "sim")
    parser.add_argument("--page", type=Path, help="the page whose part on waiting is written anew")
    arguments = parser.parse_args()
    restores, crowds = lines(arguments.sim, "--waits"), lines(arguments.sim, "--crowd")
    print(restores_table(restores), kinds_table(restores), crowds_table(crowds), crowd_kinds_table(crowds), verdict(restores, crowds), sep="\n\n")
    if page := arguments.page:
        before, begin, rest = page.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{page} has no place for the tables: {BEGIN} … {END}")
        page.write_text(before + section(restores, crowds) + after)
        (page.parent / PLOT).write_text(plot(restores))


if __name__ == "__main__":
    main()
