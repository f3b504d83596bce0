"""Reading AWS requests and writing AWS errors without knowing the services: enough for a journal and for faults."""

import json
import re
import uuid
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

SCOPE = re.compile(r"Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
CALLER = re.compile(r"(?:^|\s)app/([A-Za-z0-9!#$%&'*+.^_`|~-]+)")
INVOKE = re.compile(r"^/2015-03-31/functions/(?:arn:[^/]*:function:)?([^/:]+)(?::[^/]+)?/invocations$")
# Values that may not be kept anywhere, not even here.
SECRET = re.compile(r"password|secretstring|secretbinary", re.IGNORECASE)
QUERY_SERVICES = {"rds", "sns", "sts", "iam", "ec2"}


class Call:
    """One AWS API call: what was asked, of which service, where, by whom."""

    def __init__(self, environ, body):
        self.service, self.action, self.region, self.account_key = "", "", "", ""
        scope = SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope:
            self.account_key, self.region, self.service = scope.groups()
        self.body = body
        self.path, self.query = environ.get("PATH_INFO", ""), dict(parse_qsl(environ.get("QUERY_STRING", "")))
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        invoke = INVOKE.match(environ.get("PATH_INFO", ""))
        self.parameters = {}
        if invoke:
            self.service, self.action = "lambda", "Invoke"
            self.parameters = {"FunctionName": invoke[1], "Payload": parse_json(body)}
        elif target:
            self.action = target.rpartition(".")[2]
            self.parameters = parse_json(body) or {}
        elif environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            flat = dict(parse_qsl(body.decode(), keep_blank_values=True))
            self.action = flat.pop("Action", "")
            flat.pop("Version", None)
            self.parameters = unflatten(flat)
        else:
            self.action = f"{environ.get('REQUEST_METHOD', '')} {environ.get('PATH_INFO', '')}"
        # SDKs put AWS_SDK_UA_APP_ID there; the stack gives each function its own name.
        agent = f"{environ.get('HTTP_USER_AGENT', '')} {environ.get('HTTP_X_AMZ_USER_AGENT', '')}"
        caller = CALLER.search(agent)
        # Calls that are made without an SDK client name nobody; each function also has an access key of its own.
        self.caller = caller[1] if caller else self.account_key.partition("local.")[2] or None

    @property
    def function(self):
        return self.parameters.get("FunctionName") if self.service == "lambda" else None


def parse_json(body):
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def unflatten(flat):
    """`Tags.Tag.1.Key=a` as {"Tags": [{"Key": "a"}]}: the element name before a number says nothing."""
    nested = {}
    for key, value in flat.items():
        parts = key.split(".")
        parts = [part for index, part in enumerate(parts) if index == 0 or index + 1 >= len(parts) or not parts[index + 1].isdigit()]
        spot = nested
        for part in parts[:-1]:
            spot = spot.setdefault(part, {})
        spot[parts[-1]] = value
    return listed(nested)


def listed(thing):
    if not isinstance(thing, dict):
        return thing
    if thing and all(key.isdigit() for key in thing):
        return [listed(thing[key]) for key in sorted(thing, key=int)]
    return {key: listed(value) for key, value in thing.items()}


def without_secrets(thing):
    if isinstance(thing, dict):
        return {key: "(removed)" if SECRET.search(key) and isinstance(value, (str, int)) else without_secrets(value) for key, value in thing.items()}
    return [without_secrets(item) for item in thing] if isinstance(thing, list) else thing


def error_of(content):
    """The error code in an answer's body, in either form."""
    text = content[:4000].decode(errors="replace")
    found = re.search(r"<Code>([^<]+)</Code>", text) or re.search(r'"(?:__type|errorType)"\s*:\s*"(?:[^"]*#)?([^"]+)"', text)
    return found[1] if found else None


def request_id_of(headers, content):
    """AWS's id of the request, from the header or from an XML body."""
    header = next((value for name, value in headers if name.lower() == "x-amzn-requestid"), None)
    found = header is None and re.search(rb"<RequestId>([^<]+)</RequestId>", content)
    return found[1].decode() if found else header


def error_response(service, code, message, status=400):
    """An AWS error as that service writes it: (status, headers, body)."""
    request_id = str(uuid.uuid4())
    if service in QUERY_SERVICES:
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            f'<ErrorResponse xmlns="http://{service}.amazonaws.com/doc/"><Error><Type>{kind}</Type><Code>{escape(code)}</Code>'
            f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        headers = [("Content-Type", "text/xml")]
    else:
        member = "Message" if service == "lambda" else "message"
        body = json.dumps({"__type": code, member: message})
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-ErrorType", code)]
    return status, headers + [("x-amzn-RequestId", request_id)], body.encode()
