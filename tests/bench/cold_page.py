"""What cold.py measured, as tables: for the terminal and for the page, with a plot beside it."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- cold start: written by make bench-cold, do not edit -->", "<!-- end of cold start -->"
PLOT = "cold-start.svg"
# Times faster than Python, over TLS; peak memory as a part of Python's; MB of the zip.
START_TIMES, COLD_TIMES = 60, 40
PEAK_PART, PEAK_PART_DATABASE = 1 / 5, 1 / 3
ZIP_MB, ZIP_MB_DATABASE = 3.0, 4.5
DATABASE = "setup-db-users"
THREE_CALLS = "three calls"


@dataclass
class Result:
    figures: dict  # (step, who, protocol) -> medians
    calls: dict  # (step, who) -> calls to AWS of the first invocation and of a warm one
    sizes: dict  # (step, who) -> bytes
    steps: list
    protocols: list
    also: list
    rounds: int

    def of(self, step, who, protocol):
        return self.figures[step, who, protocol]


def misses(result):
    """Every target that was missed, in words. Targets are for TLS."""
    missed = []
    if "https" not in result.protocols:
        return missed
    for step in result.steps:
        ours, python = result.of(step, "ours", "https"), result.of(step, "python", "https")
        part = PEAK_PART_DATABASE if step == DATABASE else PEAK_PART
        size, limit = result.sizes[step, "ours"] / 1e6, ZIP_MB_DATABASE if step == DATABASE else ZIP_MB
        if (times := python["start"] / ours["start"]) < START_TIMES:
            missed.append(f"{step}: start to first poll {times:.1f} times as fast, not {START_TIMES}")
        if (times := python["cold"] / ours["cold"]) < COLD_TIMES:
            missed.append(f"{step}: start and first invocation {times:.1f} times as fast, not {COLD_TIMES}")
        if ours["peak"] / python["peak"] > part:
            missed.append(f"{step}: peak memory {ours['peak'] / python['peak']:.2f} of Python's, not {part:.2f}")
        if size > limit:
            missed.append(f"{step}: zip of {size:.2f} MB, not {limit}")
    return missed


def table(head, rows):
    lines = [head, ["---" if not number else "--:" for number in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def times_table(result, protocol):
    head = ["Step", "calls", "start", "Python", "times", "start + first", "Python", "times", "warm", "Python", "CPU", "Python", "peak", "Python", "part"]
    rows = []
    for step in result.steps:
        ours, python = result.of(step, "ours", protocol), result.of(step, "python", protocol)
        rows.append([
            step, result.calls[step, "ours"][0],
            f"{ours['start']:.1f}", f"{python['start']:.0f}", f"{python['start'] / ours['start']:.0f}",
            f"{ours['cold']:.1f}", f"{python['cold']:.0f}", f"{python['cold'] / ours['cold']:.0f}",
            f"{ours['warm']:.1f}", f"{python['warm']:.1f}", f"{ours['cpu']:.1f}", f"{python['cpu']:.0f}",
            f"{ours['peak']:.1f}", f"{python['peak']:.0f}", f"{ours['peak'] / python['peak']:.2f}",
        ])  # fmt: skip
    least = result.of(THREE_CALLS, "python", protocol)
    rows.append([
        "Python, three calls", result.calls[THREE_CALLS, "python"][0],
        "", f"{least['start']:.0f}", "", "", f"{least['cold']:.0f}", "", "", f"{least['warm']:.1f}", "", f"{least['cpu']:.0f}", "", f"{least['peak']:.0f}", "",
    ])  # fmt: skip
    return table(head, rows)


def sizes_table(result):
    rows = [[step, f"{result.sizes[step, 'ours'] / 1e6:.2f}", ZIP_MB_DATABASE if step == DATABASE else ZIP_MB] for step in result.steps]
    return table(["Step", "zip, MB", "target"], rows)


def text(result):
    parts = [f"{name.upper() if name == 'http' else 'TLS'}\n\n{times_table(result, name)}" for name in result.protocols]
    missed = misses(result)
    verdict = "All targets are met." if not missed else "Missed:\n" + "\n".join(f"- {miss}" for miss in missed)
    return "\n\n".join([*parts, sizes_table(result), verdict])


def comparison(result):
    """Builds side by side."""
    head = ["Step", "build", "over", "start", "start + first", "warm", "CPU", "peak", "zip, MB", "calls"]
    rows = []
    for step in result.steps:
        for protocol in result.protocols:
            for who in ("ours", *result.also):
                taken = result.of(step, who, protocol)
                rows.append([
                    step, who, protocol, f"{taken['start']:.2f}", f"{taken['cold']:.2f}", f"{taken['warm']:.2f}", f"{taken['cpu']:.2f}", f"{taken['peak']:.2f}",
                    f"{result.sizes[step, who] / 1e6:.2f}", "/".join(map(str, result.calls[step, who])),
                ])  # fmt: skip
    return table(head, rows)


def machine():
    model = "a processor"
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        model = next((line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")), model)
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}"


def section(result):
    missed = misses(result)
    verdict = ["All targets are met."] if not missed else ["Missed:", "", *(f"- {miss}" for miss in missed)]
    lines = [
        BEGIN,
        f"Medians of {result.rounds} fresh processes each, ours and Python's in turn, on {machine()}. Times in milliseconds, memory in MiB. What counts is",
        "the ratio: another machine has other milliseconds.",
        "",
        f"![How many times as fast as Python each step starts]({PLOT})",
        "",
        "Over TLS:",
        "",
        times_table(result, "https"),
        "",
        "`make package ARCH=x86_64 && make bench-cold`",
        "",
        "Over plain HTTP, in the same run:",
        "",
        times_table(result, "http"),
        "",
        "`make bench-cold`",
        "",
        "What is deployed:",
        "",
        sizes_table(result),
        "",
        "`make bench-cold`, of what `make package` built",
        "",
        f"Targets, over TLS: start to first poll {START_TIMES} times as fast as Python, start and first invocation together {COLD_TIMES} times, peak",
        f"memory a fifth ({DATABASE} a third), zip {ZIP_MB:.0f} MB ({DATABASE} {ZIP_MB_DATABASE}).",
        *verdict,
        END,
    ]
    return "\n".join(lines)


def write(result, page):
    """Puts the tables into the page, in the place of the former ones, and the plot beside it."""
    was = page.read_text()
    before, begin, rest = was.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no place for the tables: {BEGIN} … {END}")
    page.write_text(before + section(result) + after)
    (page.parent / PLOT).write_text(plot(result))


def plot(result):
    """A bar for each step and figure: how many times as fast as Python, over TLS, with the targets as lines."""
    bars = [("start", "start to first poll", "#2b6cb0", START_TIMES), ("cold", "start + first invocation", "#dd6b20", COLD_TIMES)]
    ratios = {
        (step, name): result.of(step, "python", "https")[name] / result.of(step, "ours", "https")[name] for step in result.steps for name, *_ in bars
    }  # fmt: skip
    left, right, top, row, bar = 150, 60, 64, 40, 14
    width = 760
    scale = (width - left - right) / max(*ratios.values(), START_TIMES)
    height = top + row * len(result.steps) + 14
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="12" y="20" font-size="14">How many times as fast as the same calls in Python (over TLS, medians)</text>',
    ]
    at = 12
    for _, title, colour, target in bars:
        label = f"{title}, target {target}"
        out.append(f'<rect x="{at}" y="31" width="12" height="12" fill="{colour}"/><text x="{at + 18}" y="41">{label}</text>')
        at += 40 + 7 * len(label)
    for number, step in enumerate(result.steps):
        y = top + number * row
        out.append(f'<text x="{left - 8}" y="{y + bar + 4}" text-anchor="end">{step}</text>')
        for place, (name, _, colour, _) in enumerate(bars):
            ratio, spot = ratios[step, name], y + place * (bar + 2)
            out.append(f'<rect x="{left}" y="{spot}" width="{ratio * scale:.1f}" height="{bar}" fill="{colour}"/>')
            out.append(f'<text x="{left + ratio * scale + 5:.1f}" y="{spot + bar - 3}">{ratio:.0f}</text>')
    for _, _, colour, target in bars:
        x = left + target * scale
        out.append(f'<line x1="{x:.1f}" y1="{top - 8}" x2="{x:.1f}" y2="{height - 10}" stroke="{colour}" stroke-dasharray="4 3"/>')
    return "\n".join([*out, "</svg>"]) + "\n"
