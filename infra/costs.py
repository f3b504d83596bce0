"""What a nightly restore costs a month, from the prices and measured calls in prices.json, as the table of docs/deploy.md.

    python infra/costs.py            prints it
    python infra/costs.py --write    puts it into the guide
"""

import json
import math
import sys
from pathlib import Path

from cfn import load

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "deploy.md"
BEGIN, END = "<!-- costs: written by infra/costs.py -->", "<!-- end of costs -->"
HOURS_A_MONTH = 730


def memory_gb():
    """Gigabytes that each function has, by the name of its step, and those that all others have."""
    template = load()
    functions = {name: made["Properties"] for name, made in template["Resources"].items() if made["Type"] == "AWS::Serverless::Function"}
    more = {function["FunctionName"]["Fn::Sub"].removeprefix("${NamePrefix}-"): function["MemorySize"] / 1024 for function in functions.values() if "MemorySize" in function}
    return more, template["Globals"]["Function"]["MemorySize"] / 1024


def database_units(data, transactions, single_writes, reads):
    """Write and read units of DynamoDB. Table and two indexes, each item in units of 1 KB; in a transaction the table's own write counts
    twice, and the lock's check too."""
    item_kb = data["assumed"]["item_kb"]
    return transactions * (4 * item_kb + 2) + single_writes * 3 * item_kb, reads * math.ceil(item_kb / 4)


def month(size, data):
    """{what: dollars a month} for a nightly restore of this size."""
    price, measured, assumed = data["prices"], data["measured"], data["assumed"]
    nights = assumed["nights"]
    # 15 transitions without a wait; each wait adds three (statemachine/README.md).
    waits = (size["transitions"] - 15) / 3
    each = {name: measured[name] + waits * measured["per_wait"].get(name, 0) for name in ("invocations", "transactions", "reads")}
    writes, reads = database_units(data, each["transactions"], measured["single_writes"], each["reads"] + measured["queries"])
    # A restore invokes each of those that have more memory once.
    more, usual = memory_gb()
    gigabytes = each["invocations"] * usual + sum(gb - usual for gb in more.values())
    compute = gigabytes * assumed["lambda_seconds"] * price["lambda_gb_second_arm64"]
    secrets = measured["secret_calls"] * (price["secret_call"] + price["kms_call"])
    return {
        "Step Functions": nights * size["transitions"] * price["states_transition"],
        "Lambda": nights * (each["invocations"] * price["lambda_request"] + compute),
        "DynamoDB": nights * (writes * price["dynamodb_write_unit"] + reads * price["dynamodb_read_unit"]),
        "Secrets, key": 3 * price["secret_month"] + price["kms_key_month"] + nights * secrets,
        "Alarms, figures, dashboard": assumed["alarm_metrics"] * price["alarm_metric_month"]
        + assumed["own_metrics"] * price["metric_month"] * nights * size["hours"] / HOURS_A_MONTH
        + price["dashboard_month"],
        "Transfer between Regions": nights * size["gb"] * price["transfer_gb"],
        "Copies kept": assumed["copies_kept"] * size["gb"] * price["snapshot_gb_month"],
    }


def table(data):
    columns = {size["name"]: month(size, data) for size in data["sizes"]}
    lines = ["| Dollars a month, nightly | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for what in next(iter(columns.values())):
        lines.append(f"| {what} | " + " | ".join(f"{column[what]:.2f}" for column in columns.values()) + " |")
    lines.append("| **Together** | " + " | ".join(f"**{sum(column.values()):.2f}**" for column in columns.values()) + " |")
    endpoints = data["assumed"]["interface_endpoints"] * data["assumed"]["subnets"] * HOURS_A_MONTH * data["prices"]["endpoint_hour"]
    lines.append("| with `CreateEndpoints` besides | " + " | ".join(f"{endpoints:.2f}" for _ in columns) + " |")
    return "\n".join([*lines, "", provenance(data)])


def provenance(data):
    """How far the prices can be relied on, in a sentence each."""
    sources = {name: data["sources"][name] for name in data["prices"]}
    by_aws = [name for name, source in sources.items() if source and source.startswith("aws.amazon.com/")]
    unchecked = [name for name, source in sources.items() if source is None]

    def listed(names):
        return ", ".join(f"`{name}`" for name in names)

    return (
        f"Read on AWS's own pages: {listed(by_aws)}. Without any source, to be checked: {listed(unchecked) or 'none'}. "
        "All others are from pages of third parties, named in `infra/prices.json`."
    )


def main():
    made = table(json.loads((ROOT / "infra" / "prices.json").read_text()))
    if "--write" in sys.argv:
        text = GUIDE.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        GUIDE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
    else:
        print(made)


if __name__ == "__main__":
    main()
