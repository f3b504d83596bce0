"""An execution's history as steps: who worked from when to when, how often it was asked, how it went."""

import json

from functions import STEPS


class Phase:
    """One step with all its polls and the waits between them."""

    def __init__(self, step, began):
        self.step, self.began, self.ended = step, began, None
        self.asked, self.outcome, self.progress, self.error = 0, None, None, None


def function_of(details):
    """`arn:...:function:check-copy` or `check-copy:live` -> `check-copy`."""
    try:
        name = json.loads(details["parameters"])["FunctionName"]
    except (KeyError, ValueError, TypeError):
        return None
    name = name.split(":function:")[-1].split(":")[0]
    return next((step for step in STEPS if name == step or name.endswith(f"-{step}")), None)


def payload_of(details):
    try:
        answer = json.loads(details["output"])
    except (KeyError, ValueError, TypeError):
        return {}
    answer = answer.get("Payload", answer) if isinstance(answer, dict) else {}
    return answer if isinstance(answer, dict) else {}


def phases(events):
    found = []
    for event in events:
        when = event["timestamp"]
        if "taskScheduledEventDetails" in event:
            step = function_of(event["taskScheduledEventDetails"])
            if step is None:
                continue
            if not found or found[-1].step != step:
                # The waits after a poll belong to the step that asked for them.
                if found:
                    found[-1].ended = when
                found.append(Phase(step, when))
            found[-1].asked += 1
            found[-1].ended = None
        elif "taskSucceededEventDetails" in event and found:
            answer = payload_of(event["taskSucceededEventDetails"])
            found[-1].outcome, found[-1].progress = answer.get("outcome", "done"), answer.get("progress")
            found[-1].error = None
        elif "taskFailedEventDetails" in event and found:
            details = event["taskFailedEventDetails"]
            found[-1].outcome, found[-1].error = "failed", details.get("error")
        elif event["type"].startswith("Execution") and event["type"] != "ExecutionStarted" and found:
            found[-1].ended = when
    return found
