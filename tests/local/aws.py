"""The front of the local stack: every AWS API call of the stack arrives here and is passed on to moto.

moto serves the APIs and runs the state machine; cargo-lambda serves the functions. The front adds what neither has:
invocations find their function, as AWS answers them; DynamoDB and RDS calls happen one after the other, since moto's are
not safe side by side (without that, two conditional writers both win now and then); a journal of all calls; faults on order.

    GET    /_stack/health
    GET    /_stack/calls       the journal            DELETE empties it
    GET    /_stack/deeds       the rights that the functions' calls needed, since the start (deeds.py)
    POST   /_stack/faults      the next calls fail    DELETE forgets them
    POST   /_stack/rds         state of a resource, pace, how the next restore ends (rds.py)
    GET    /_stack/functions   the functions' environment; POST {"env": {...}} starts them afresh with these besides, {"kill": name} ends one
    POST   /_stack/reset       everything as it was after the start
"""

import concurrent.futures
import contextlib
import datetime
import io
import json
import threading
import time
import traceback
import uuid

import deeds
import requests
import wire
from moto.core.config import default_user_config
from moto.iam.models import get_account_id_from
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.rds.exceptions import RDSClientError
from werkzeug.wsgi import get_input_stream

FUNCTION_TIMEOUT_SECONDS = 60
# How often a waiting invocation looks whether its function is still alive. cargo-lambda would wait for ever.
WATCH_SECONDS = 0.05


class Fault:
    """The next `times` calls that match, after `skip` others, are answered with an error, before or after they had their effect, or (`delay`) late."""

    def __init__(self, order):
        self.order = order
        self.left, self.skip = order.get("times", 1), order.get("skip", 0)

    def matches(self, call):
        order = self.order
        meant = (
            self.left > 0
            and order.get("service", call.service) == call.service
            and order.get("action", call.action) == call.action
            and order.get("region", call.region) == call.region
            and order.get("caller", call.caller) == call.caller
            and order.get("function", call.function) == call.function
            and all(call.parameters.get(name) == value for name, value in order.get("match", {}).items())
        )
        if meant and self.skip:
            self.skip -= 1
            return False
        return meant

    def answer(self, call):
        if "function_error" in self.order:
            return function_error(self.order["function_error"])
        code = self.order.get("code", "InternalFailure")
        return wire.error_response(call.service, code, self.order.get("message", "fault injected by the local stack"), self.order.get("status", 400))


def function_error(payload):
    """A function that failed: the call itself succeeded, so AWS answers 200 and says so in a header."""
    return 200, [("Content-Type", "application/json"), ("X-Amz-Function-Error", "Unhandled"), ("x-amzn-RequestId", str(uuid.uuid4()))], json.dumps(payload).encode()


def make_stops_final():
    """moto's interpreter takes an error of what was under way, when an execution was stopped, for how it ended: FAILED, now and then."""
    from moto.stepfunctions.parser.asl.eval.environment import Environment
    from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped

    set_error = Environment.set_error

    def set_error_of_what_runs(self, error):
        if not isinstance(self.program_state(), ProgramStopped):
            set_error(self, error)

    Environment.set_error = set_error_of_what_runs


class Front:
    """A WSGI application."""

    def __init__(self, cloud, functions, plane, run_dir):
        self.cloud, self.functions, self.plane, self.run_dir = cloud, functions, plane, run_dir
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        make_stops_final()
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.dynamodb = threading.Lock()
        self.calls, self.faults, self.lock = [], [], threading.Lock()
        self.deeds = set()  # since the start, whatever is reset
        self.pool = concurrent.futures.ThreadPoolExecutor(max_workers=64, thread_name_prefix="invoke")

    def __call__(self, environ, start_response):
        # Read once: the journal looks at the body, and moto reads it after us.
        body = get_input_stream(environ).read()
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        path = environ.get("PATH_INFO", "")
        try:
            if path.startswith("/_stack/"):
                status, headers, content = self.manage(environ["REQUEST_METHOD"], path.removeprefix("/_stack/"), body)
            else:
                status, headers, content = self.call(environ, wire.Call(environ, body))
        except RDSClientError as refused:
            status, headers, content = 400, [("Content-Type", "text/plain")], str(refused).encode()
        except Exception:
            traceback.print_exc()
            status, headers, content = 500, [("Content-Type", "text/plain")], traceback.format_exc().encode()
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(f"{status} -", headers + [("Content-Length", str(len(content)))])
        return [content]

    def call(self, environ, call):
        began = time.monotonic()
        self.note(call)
        with self.lock:
            fault = next((fault for fault in self.faults if fault.matches(call)), None)
            if fault:
                fault.left -= 1
        is_late = fault is not None and "delay" in fault.order
        if fault is None or is_late or fault.order.get("after_effect"):
            status, headers, content = self.serve(environ, call)
        if is_late:
            time.sleep(fault.order["delay"])
        elif fault is not None:
            status, headers, content = fault.answer(call)
        failed = status >= 400 or any(name.lower() == "x-amz-function-error" for name, _ in headers)
        entry = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"),
            "service": call.service,
            "action": call.action,
            "region": call.region,
            "account": get_account_id_from(call.account_key) if call.account_key else None,
            "caller": call.caller,
            "status": status,
            "error": wire.error_of(content) if failed else None,
            "fault": fault is not None,
            "milliseconds": round(1000 * (time.monotonic() - began)),
            "request_id": wire.request_id_of(headers, content),
            "parameters": wire.without_secrets(call.parameters),
        }
        with self.lock:
            self.calls.append(entry)
        return status, headers, content

    def note(self, call):
        """Before the call is served, since it may change the tags on which its right depends."""
        with self.cloud.lock if call.service == "rds" else contextlib.nullcontext():
            found = list(deeds.of(call, self.cloud))
        self.keep(found)

    def note_login(self, who, region, resource_id, user):
        """A login with a token: tokens.py has checked it."""
        self.keep(list(deeds.of_login(who, region, resource_id, user)))

    def keep(self, found):
        regions = self.functions.environment()
        deployment = f"{regions['SOURCE_REGION']} to {regions['TARGET_REGION']}"
        with self.lock:
            self.deeds.update((deployment, *deed) for deed in found)

    def serve(self, environ, call):
        if call.service == "lambda" and call.action == "Invoke":
            return self.invoke(call, environ.get("HTTP_X_AMZ_INVOCATION_TYPE", "RequestResponse"))
        if call.service == "dynamodb":
            with self.dynamodb:
                return self.pass_on(environ)
        if call.service == "rds":
            with self.cloud.lock:
                return self.pass_on(environ)
        return self.pass_on(environ)

    def on_event(self, event):
        """EventBridge: hands an event of RDS to the function wake, and waits for nothing."""
        body = json.dumps(event).encode()
        self.pool.submit(requests.post, f"{self.functions.endpoint}/2015-03-31/functions/wake/invocations", data=body, timeout=FUNCTION_TIMEOUT_SECONDS)

    def pass_on(self, environ):
        answer = {}

        def start(status, headers, exc_info=None):
            answer["status"], answer["headers"] = int(status.split()[0]), headers

        content = b"".join(self.moto(environ, start))
        return answer["status"], answer["headers"], content

    def invoke(self, call, invocation_type):
        if call.function not in self.functions.names:
            arn = f"arn:aws:lambda:{call.region}:123456789012:function:{call.function}"
            return wire.error_response("lambda", "ResourceNotFoundException", f"Function not found: {arn}", 404)
        if invocation_type == "Event":
            self.pool.submit(self.run_function, call)
            return 202, [("Content-Type", "application/json")], b""
        return self.run_function(call)

    def run_function(self, call):
        """Passes the call to cargo-lambda; ends it as AWS would when the function dies or takes too long."""
        name, exits = call.function, self.functions.exits(call.function)
        waiting = self.pool.submit(
            requests.post, f"{self.functions.endpoint}/2015-03-31/functions/{name}/invocations", data=call.body, timeout=FUNCTION_TIMEOUT_SECONDS + 5
        )
        deadline = time.monotonic() + FUNCTION_TIMEOUT_SECONDS
        while True:
            try:
                response = waiting.result(WATCH_SECONDS)
                break
            except (concurrent.futures.TimeoutError, TimeoutError):
                if self.functions.exits(name) != exits:
                    return function_error({"errorType": "Runtime.ExitError", "errorMessage": f"Error: Runtime exited ({self.functions.last_exit(name)})"})
                if time.monotonic() > deadline:
                    self.functions.kill(name)
                    return function_error({"errorType": "Sandbox.Timedout", "errorMessage": f"Task timed out after {FUNCTION_TIMEOUT_SECONDS}.00 seconds"})
            except requests.RequestException as failure:
                return function_error({"errorType": "Runtime.ExitError", "errorMessage": f"the function service is gone: {failure}"})
        headers = [("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4()))]
        if response.status_code >= 400:
            # cargo-lambda answers a handler's error as a bare 500.
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        return 200, headers, response.content

    def manage(self, method, what, body):
        order = json.loads(body) if body else {}
        answer = {}
        if what == "health":
            answer = {"ready": True, "functions": self.functions.state(), "tokens": self.plane.version_with_ldap is not None}
        elif what == "calls" and method == "GET":
            with self.lock:
                answer = list(self.calls)
        elif what == "calls" and method == "DELETE":
            with self.lock:
                self.calls.clear()
        elif what == "deeds":
            with self.lock:
                answer = [[*deed[:-1], dict(deed[-1])] for deed in sorted(self.deeds)]
        elif what == "faults" and method == "POST":
            with self.lock:
                self.faults.append(Fault(order))
        elif what == "faults" and method == "DELETE":
            with self.lock:
                self.faults.clear()
        elif what == "rds" and method == "POST":
            self.cloud.change(order)
        elif what == "functions" and method == "GET":
            answer = {"env": self.functions.environment()}
        elif what == "functions" and method == "POST" and "kill" in order:
            self.functions.kill(order["kill"])
        elif what == "functions" and method == "POST":
            self.functions.start(order.get("env", {}))
        elif what == "reset" and method == "POST":
            self.reset()
        else:
            return 404, [("Content-Type", "text/plain")], b"unknown; see tests/local/aws.py"
        return 200, [("Content-Type", "application/json")], json.dumps(answer).encode()

    def reset(self):
        from moto.moto_api._internal import moto_api_backends
        from moto.stepfunctions.parser.models import stepfunctions_parser_backends

        # Executions first, then their functions: an execution that loses its function would retry into the new world.
        for regions in list(stepfunctions_parser_backends.values()):
            for backend in list(regions.values()):
                for machine in backend.state_machines:
                    for execution in machine.executions:
                        if execution.status == "RUNNING":
                            execution.stop(stop_date=datetime.datetime.now(), error="Stack.Reset", cause="the local stack was reset")
        self.functions.stop()
        self.functions.forget_logs()
        with self.cloud.lock, self.dynamodb:
            self.cloud.reset()
            self.plane.destroy_all()
            self.cloud.mysql.destroy_all()
            moto_api_backends["global"].reset()
        with self.lock:
            self.calls.clear()
            self.faults.clear()
