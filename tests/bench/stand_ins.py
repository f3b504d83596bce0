"""The other side of the wire for cold.py, on 127.0.0.1: Lambda's Runtime API, and AWS's APIs as a recording that answers.

An answer costs some tens of microseconds, the same for whoever asks: what is measured is the function, not moto.
"""

import datetime
import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
import uuid
from urllib.parse import parse_qsl

SCOPE = re.compile(rb"Credential=[^/,\s]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
READING = re.compile(r"Describe|Get|List|Query|BatchGet")
# Of an answer's headers those that a client looks at.
KEPT = {"content-type", "x-amzn-requestid", "x-amzn-errortype"}


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def header(self, name):
        return self.headers.get(name, b"")


def requests_on(stream):
    """The requests that arrive on a connection, until it ends."""
    while line := stream.readline():
        method, path, _ = line.decode().split()
        headers = {}
        while (line := stream.readline()).strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if b"chunked" in headers.get(b"transfer-encoding", b""):
            body = b""
            while size := int(stream.readline().partition(b";")[0], 16):
                body += stream.read(size)
                stream.readline()
            stream.readline()
        else:
            body = stream.read(int(headers.get(b"content-length", 0)))
        yield Request(method, path, headers, body)


def response(status, headers, body=b""):
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Answers HTTP on a port of its own, a thread for each connection; over TLS with a `context`."""

    def __init__(self, answer, context=None):
        self.answer, self.context = answer, context
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def url(self, host="localhost"):
        return f"{'https' if self.context else 'http'}://{host}:{self.port}"

    def close(self):
        # A thread that waits in accept() keeps a socket that is only closed: a last connection wakes it up.
        self.answer = None
        with socket.socket() as last:
            last.connect_ex(("127.0.0.1", self.port))
        self.thread.join()
        self.listener.close()

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            if self.answer is None:
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                for request in requests_on(stream):
                    self.answer(request, connection)
        except (OSError, ValueError):
            pass  # the function was ended in the middle of a request


class Authority:
    """A certificate authority of our own, and a server's certificate from it."""

    def __init__(self, directory):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        now = datetime.datetime.now(datetime.timezone.utc)

        def certificate(name, issuer, key, signer, *extensions):
            builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
            builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            builder = builder.not_valid_after(now + datetime.timedelta(days=2))
            for extension, critical in extensions:
                builder = builder.add_extension(extension, critical)
            return builder.sign(signer, hashes.SHA256())

        def name(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name = name("aurora-restore bench authority")
        root = certificate(root_name, root_name, root_key, root_key, (x509.BasicConstraints(ca=True, path_length=0), True))
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = certificate(name("localhost"), root_name, key, root_key, (names, False), (x509.BasicConstraints(ca=False, path_length=None), True))
        self.root = root.public_bytes(serialization.Encoding.PEM)
        chain, private = directory / "server.pem", directory / "server.key"
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, private)
        # The curve that clients offer first, as AWS's endpoints take it. Python's own choice costs every client a second hello.
        self.context.set_ecdh_curve("X25519")


# AWS's APIs


def identity(request):
    """A call as (service, region, action) and, of those that read, what they ask for."""
    scope = SCOPE.search(request.header(b"authorization"))
    region, service = (part.decode() for part in scope.groups()) if scope else ("", "")
    if target := request.header(b"x-amz-target"):
        action = target.decode().rpartition(".")[2]
        asked = json.dumps(json.loads(request.body or b"{}"), sort_keys=True) if READING.match(action) else None
    elif request.header(b"content-type").startswith(b"application/x-www-form-urlencoded"):
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
        action = next(value for name, value in pairs if name == "Action")
        asked = json.dumps(sorted(pairs)) if READING.match(action) else None
    else:
        action, asked = f"{request.method} {request.path.partition('?')[0]}", request.path
    return (service, region, action), asked


class Recorder:
    """Passes calls on to the local stack and keeps what it answers."""

    def __init__(self, endpoint):
        self.host = endpoint.removeprefix("http://")
        self.calls = []

    def begin(self):
        self.calls = []

    def __call__(self, request, connection):
        headers = {name.decode(): value.decode() for name, value in request.headers.items() if name not in (b"connection", b"transfer-encoding")}
        stack = http.client.HTTPConnection(self.host, timeout=60)
        stack.request(request.method, request.path, request.body, headers)
        answer = stack.getresponse()
        body = answer.read()
        stack.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() in KEPT]
        call, asked = identity(request)
        self.calls.append({"call": call, "asked": asked, "request": request, "status": answer.status, "answer": response(answer.status, kept, body)})
        connection.sendall(self.calls[-1]["answer"])


class Replay:
    """Answers from a recording, each invocation from its beginning: the same question as it was answered, first by first."""

    def __init__(self):
        self.play([])

    def play(self, calls):
        self.answers = {}
        for call in calls:
            self.answers.setdefault(call["call"], []).append([call["asked"], call["answer"]])
        self.invocations, self.strange = [], []
        self.begin()

    def begin(self):
        self.given = {}
        self.invocations.append([])

    def __call__(self, request, connection):
        call, asked = identity(request)
        self.invocations[-1].append(call)
        known = self.answers.get(call, [])
        given = self.given.setdefault(call, set())
        fitting = [number for number, (question, _) in enumerate(known) if question == asked]
        if not fitting:
            self.strange.append((call, asked))
            return connection.sendall(response(400, [("Content-Type", "text/plain")], b"not in the recording"))
        number = next((number for number in fitting if number not in given), fitting[-1])
        given.add(number)
        return connection.sendall(known[number][1])


def parameters(call, model):
    """A recorded call as boto3 takes it: (method, keyword arguments). `model` is botocore's of the service."""
    from botocore import xform_name

    request = call["request"]
    action = call["call"][2]
    if request.header(b"x-amz-target"):
        return xform_name(action), json.loads(request.body or b"{}")
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    return xform_name(action), typed(form, "", model.operation_model(action).input_shape)


def typed(form, at, shape):
    """What a form says at a place, as the service's model types it."""
    if shape is None:
        return {}
    below = f"{at}." if at else ""
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            on_wire = member.serialization.get("name", name)
            # EC2 writes the first letter large whatever the model says.
            for spelling in {name, on_wire, on_wire[:1].upper() + on_wire[1:]}:
                place = below + spelling
                if any(key == place or key.startswith(f"{place}.") for key in form):
                    found[name] = typed(form, place, member)
        return found
    if shape.type_name in ("list", "map"):
        # `Filters.Filter.1` or `Filter.1`; a map's entries have a key and a value. An empty list is an empty text.
        entry = re.compile(rf"{re.escape(at)}(?:\.[A-Za-z]\w*)?\.\d+(?=\.|$)")
        places = dict.fromkeys(match[0] for key in form if (match := entry.match(key)))
        if shape.type_name == "list":
            return [typed(form, place, shape.member) for place in places]
        key, value = shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")
        return {form[f"{place}.{key}"]: typed(form, f"{place}.{value}", shape.value) for place in places}
    if shape.type_name == "boolean":
        return form[at] == "true"
    return int(form[at]) if shape.type_name in ("integer", "long") else form[at]


# Lambda


def cpu_nanoseconds(pid):
    """What a process has used so far, all its threads; Linux's clock of a process."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class Runtime:
    """Lambda's Runtime API for one function process at a time: hands out events and notes what arrived when.

    The one who waits for it sleeps until all is over: two threads of one Python would be in each other's way.
    """

    PREFIX = "/2018-06-01/runtime/"

    def __init__(self, begin):
        self.begin = begin
        self.server = Server(self._answer)
        self.expect([])

    @property
    def address(self):
        return f"127.0.0.1:{self.server.port}"

    def expect(self, events):
        """Of the next process. The poll after the last event stays without an answer."""
        self.events, self.pid = list(events), None
        self.first_poll, self.cpu, self.spans, self.answers = None, None, [], []
        self.over = threading.Event()

    def _answer(self, request, connection):
        now = time.perf_counter_ns()
        what = request.path.removeprefix(self.PREFIX)
        if what == "invocation/next":
            self.first_poll = self.first_poll or now
            if not self.events:
                self.over.set()
                return
            headers = [
                ("Content-Type", "application/json"),
                ("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4())),
                ("Lambda-Runtime-Deadline-Ms", str(int(1000 * time.time()) + 60_000)),
                ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-west-2:123456789012:function:bench"),
                ("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"),
            ]
            event = response(200, headers, json.dumps(self.events.pop(0)).encode())
            self.begin()
            self.sent = time.perf_counter_ns()
            connection.sendall(event)
            return
        # An invocation's answer, or the error that it (or the start) ended with.
        if not self.spans:
            self.cpu = cpu_nanoseconds(self.pid)
        connection.sendall(response(202, [("Content-Type", "application/json")], b'{"status":"OK"}'))
        self.spans.append(now - getattr(self, "sent", now))
        self.answers.append((what.rpartition("/")[2], request.body))
        if what == "init/error":
            self.over.set()
