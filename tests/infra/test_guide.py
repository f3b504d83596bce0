"""docs/deploy.md says what is so: prices, commands, parameters, links."""

import json
import re

from cfn import ROOT, Stack, load
from costs import BEGIN, END, month, table

GUIDE = (ROOT / "docs" / "deploy.md").read_text()
PRICES = json.loads((ROOT / "infra" / "prices.json").read_text())


def test_the_costs_are_those_of_the_prices():
    """The guide's table is what infra/costs.py makes of the data; after a change: python infra/costs.py --write."""
    assert GUIDE.split(BEGIN)[1].split(END)[0].strip() == table(PRICES)


def test_every_price_says_where_it_is_from():
    """A source, or null; and the guide names those that have none."""
    assert set(PRICES["sources"]) - {"comment"} == set(PRICES["prices"])
    unchecked = {name for name, source in PRICES["sources"].items() if source is None}
    assert set(re.findall(r"`(\w+)`", GUIDE.split("Without any source, to be checked: ")[1].split(". ")[0])) == unchecked


def test_costs_follow_prices():
    """A price that doubles shows; what no price is for costs nothing."""
    small = PRICES["sizes"][0]
    for name in PRICES["prices"]:
        if name != "endpoint_hour":
            dearer = {**PRICES, "prices": {**PRICES["prices"], name: 2 * PRICES["prices"][name]}}
            assert sum(month(small, dearer).values()) > sum(month(small, PRICES).values()), name


def test_the_assumptions_are_the_templates():
    """As many alarms' metrics as the template has; transitions as the state machine's page tells them."""
    alarms = [made["Properties"] for made in Stack({"ScheduleState": "ENABLED"}).resources().values() if made["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = sum(len([metric for metric in alarm.get("Metrics", [{"MetricStat": 1}]) if "MetricStat" in metric]) for alarm in alarms)
    assert PRICES["assumed"]["alarm_metrics"] == metrics
    page = (ROOT / "statemachine" / "README.md").read_text()
    for size in PRICES["sizes"]:
        assert re.search(rf"\| {size['name']} \|.*\| {size['transitions']} \|", page), size


def test_commands_and_parameters_exist():
    """Every `make` command of the guide is a target, every parameter is one of the template's."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", GUIDE)) <= targets
    known = set(load()["Parameters"]) | set(load(ROOT / "infra" / "source-account.yaml")["Parameters"])
    named = set(re.findall(r"`([A-Z][A-Za-z]+)=", GUIDE)) | set(re.findall(r"`((?:Schedule|Source|Target|Database|Notification)[A-Z][A-Za-z]*)`", GUIDE))
    errors = set(re.findall(r"^### (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE))
    assert len(named) > 10 and named - known - errors <= {"ENV", "ARCH"}, named - known


def test_the_table_that_deployments_share_is_called_what_it_is():
    """The guide's two names: the template that makes it, and what that calls it."""
    chapter = GUIDE.split("### Many deployments in one account")[1].split("\n## ")[0]
    (file,) = re.findall(r"--template-file (\S+)", chapter)
    name = load(ROOT / file)["Parameters"]["TableName"]["Default"]
    assert set(re.findall(r"(?:RdsCallsTableName=|--table-name |--stack-name )([\w-]+)", chapter)) == {name}


def test_a_stranger_finds_every_step():
    """The guide's chapters, in the order in which they are needed, and the first deployment in numbered steps."""
    chapters = re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)
    assert chapters == [
        "Before you begin", "The first deployment", "The first restore, by hand", "The schedule", "Production in another account", "Within one Region",
        "Several environments and tenants", "Many restores at once", "Upgrading", "What it costs", "Removing it", "Troubleshooting",
    ]  # fmt: skip
    steps = re.findall(r"^(\d)\. \*\*", GUIDE.split("## The first deployment")[1].split("\n## ")[0], re.MULTILINE)
    assert steps == list("1234567")


def test_links_lead_somewhere():
    """Files exist; anchors of the runbook and of the guide itself are headings."""
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        path, _, anchor = target.partition("#")
        text = (ROOT / "docs" / path).read_text() if path else GUIDE
        headings = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in headings, target
