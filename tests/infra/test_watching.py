"""Alarms, dashboard and queries rest on figures and log fields that the functions write."""

import json
import re

from cfn import ROOT, Stack

STACK = Stack({"ScheduleState": "ENABLED"})
MADE = STACK.resources()
NAMESPACE = "aurora-restore"
# The functions' own figures with their dimensions, as crates/core/src/metrics.rs writes them (Environment is always there).
FIGURES = {
    "Restores": {"Outcome"}, "StepSeconds": {"Step", "Outcome"}, "Failures": {"Step", "Reason"}, "RecoveryTimeSeconds": set(), "RecoveryPointAgeSeconds": set(),
    "DowntimeSeconds": set(),
}  # fmt: skip
SOURCES = [path.read_text() for crate in ("core", "steps") for path in (ROOT / "crates" / crate / "src").rglob("*.rs")]
BY_FILTER = {"Placeholders"}
STEPS = {path.stem for path in (ROOT / "crates" / "steps" / "src" / "bin").glob("*.rs")}


def of_type(kind):
    return {name: made["Properties"] for name, made in MADE.items() if made["Type"] == kind}


def check(metric, dimensions, where):
    """One of our figures with exactly its dimensions, and values that occur."""
    if metric in BY_FILTER:
        assert not dimensions, where
        return
    assert set(dimensions) == FIGURES[metric] | {"Environment"}, where
    assert dimensions.get("Step", "notify") in STEPS, where
    outcomes = {"done", "waiting", "skipped"} if metric == "StepSeconds" else {"succeeded", "failed", "planned"}
    assert dimensions.get("Outcome") is None or dimensions["Outcome"] in outcomes, where


def test_the_figures_are_written():
    """These figures and no others are in the code, without an operation's id among their dimensions."""
    code = "".join(re.split(r"#\[cfg\(test\)\]\s*mod ", text)[0] for text in SOURCES)
    assert set(re.findall(r'"(\w+)", Unit::', code)) | set(re.findall(r'figure\("(\w+)"', code)) == set(FIGURES)
    assert set(re.findall(r'\("(Step|Outcome|Reason|Operation\w*)", ', code)) == {"Step", "Outcome", "Reason"}


def test_alarms_rest_on_figures_that_are_written():
    """Every alarm tells the topic; ours look at a figure with its dimensions; what says nothing is bad only where silence is."""
    alarms = of_type("AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == [STACK.attribute("Topic", "Arn")] and len(alarm["AlarmDescription"]) > 30, name
        assert alarm["TreatMissingData"] == ("breaching" if name == "MissingAlarm" else "notBreaching"), name
        if alarm.get("Namespace") == NAMESPACE:
            check(alarm["MetricName"], {one["Name"]: one["Value"] for one in alarm.get("Dimensions", [])}, name)
        else:
            assert alarm.get("Namespace", "AWS/").startswith("AWS/"), name
    throttled = {metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for metric in alarms["ThrottledAlarm"]["Metrics"] if "MetricStat" in metric}
    assert throttled == {f"{NAMESPACE}-{step}" for step in STEPS}
    missing = alarms["MissingAlarm"]
    assert missing["Period"] * missing["EvaluationPeriods"] <= 7 * 24 * 3600, "CloudWatch looks back a week at most"
    assert "MissingAlarm" not in Stack().resources(), "nobody is woken before the schedule is on"


def test_what_has_to_be_watched_is():
    """Runs that failed, timed out or are missing; steps that take long; throttles; the queue; secrets that nobody filled."""
    watched = {name.removesuffix("Alarm") for name in of_type("AWS::CloudWatch::Alarm")}
    long = {"LongCopy", "LongDeletion", "LongRestore", "LongSetup", "LongSwap", "LongRetirement"}
    assert watched == {"Failed", "TimedOut", "Missing", "Throttled", "StateMachineThrottled", "DeadLetters", "Placeholder"} | long


def test_a_placeholder_is_found_in_preflights_log():
    """The filter looks for the word with which preflight refuses such a secret, where it logs it."""
    ((name, found),) = of_type("AWS::Logs::MetricFilter").items()
    assert found["LogGroupName"] == f"/aws/lambda/{NAMESPACE}-preflight", name
    assert "PLACEHOLDER" in found["FilterPattern"]
    words = (ROOT / "crates" / "core" / "src" / "secrets.rs").read_text()
    assert "PLACEHOLDER" in words
    (transformation,) = found["MetricTransformations"]
    assert (transformation["MetricNamespace"], {transformation["MetricName"]}) == (NAMESPACE, BY_FILTER)


def test_the_dashboard_shows_what_there_is():
    """JSON that CloudWatch takes, figures that are written, alarms that exist, log groups that exist."""
    ((_, dashboard),) = of_type("AWS::CloudWatch::Dashboard").items()
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    groups = {group["LogGroupName"] for group in of_type("AWS::Logs::LogGroup").values()}
    alarms = {alarm["AlarmName"] for alarm in of_type("AWS::CloudWatch::Alarm").values()}
    shown = set()
    for widget in widgets:
        properties = widget["properties"]
        for metric in properties.get("metrics", []):
            if isinstance(metric[0], dict):
                namespace, *names = re.search(r"\{([^}]+)\}", metric[0]["expression"])[1].split(",")
                figure = re.search(r'MetricName="(\w+)"', metric[0]["expression"])[1]
                assert namespace == NAMESPACE and set(names) == FIGURES[figure] | {"Environment"}
            else:
                namespace, figure, *rest = metric
                assert namespace == NAMESPACE
                check(figure, dict(zip(rest[::2], rest[1::2], strict=True)), properties["title"])
            shown.add(figure)
        for arn in properties.get("alarms", []):
            assert arn.rpartition(":alarm:")[2] in alarms, arn
        if "query" in properties:
            assert re.match(r"SOURCE '([^']+)'", properties["query"])[1] in groups
    assert shown == set(FIGURES)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


def test_the_saved_queries_ask_for_fields_that_are_logged():
    """Fields of our own log lines are written by the code under these names."""
    builtin = {"timestamp", "message", "initDuration", "duration", "maxMemoryUsed", "type", "log", "execution_arn", "details", "level"}
    logged = set(re.findall(r"\b(operation_id|step|error_name|action|resource)\b", " ".join(SOURCES)))
    for name, query in of_type("AWS::Logs::QueryDefinition").items():
        text = "\n".join(line for line in query["QueryString"].splitlines() if not line.startswith("#"))
        asked = set(re.findall(r"\b(operation_id|step|error_name|action|resource)\b", text))
        assert asked <= logged | builtin, name
        assert query["LogGroupNames"] and set(query["LogGroupNames"]) <= {group["LogGroupName"] for group in of_type("AWS::Logs::LogGroup").values()}, name


def test_events_of_the_target_wake_and_no_others():
    """What ends a wait: created, deleted, renamed, password reset, of clusters and instances whose names begin with the target's."""
    rule = of_type("AWS::Events::Rule")["DatabaseEvents"]
    pattern = rule["EventPattern"]
    assert pattern["source"] == ["aws.rds"] and pattern["detail-type"] == ["RDS DB Cluster Event", "RDS DB Instance Event"]
    assert pattern["detail"]["SourceIdentifier"] == [{"prefix": "staging"}]
    assert {event.removeprefix("RDS-EVENT-") for event in pattern["detail"]["EventID"]} == {"0170", "0171", "0172", "0016", "0005"}
    local = re.findall(r"RDS-EVENT-(\d{4})", (ROOT / "tests" / "local" / "rds.py").read_text())
    assert local and all(f"RDS-EVENT-{event}" in pattern["detail"]["EventID"] for event in local), "the local stack tells no other events"
    (target,) = rule["Targets"]
    (permission,) = of_type("AWS::Lambda::Permission").values()
    assert target["Arn"].endswith(":function:aurora-restore-wake") and permission["SourceArn"].endswith(":rule/aurora-restore-database-events")
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 60, "a late event tells nothing that a look has not found"


def test_untold_ends_are_told():
    """An execution that was stopped or timed out is told in the shape of our own messages, and only those."""
    rule = of_type("AWS::Events::Rule")["UntoldEnds"]
    assert rule["EventPattern"]["detail"]["status"] == ["TIMED_OUT", "ABORTED"], "the others tell it themselves"
    (target,) = rule["Targets"]
    lines = target["InputTransformer"]["InputTemplate"].splitlines()
    for placeholder in re.findall(r"<(\w+)>", "".join(lines)):
        assert placeholder in target["InputTransformer"]["InputPathsMap"]
    text = "\n".join(json.loads(line) for line in lines)
    for part in ("The restore of cluster staging ended as <status>", "Operation    <name>", "Environment  dev", "Execution    <execution>", "Left behind:", "Next:"):
        assert part in text
