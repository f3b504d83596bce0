"""IAM database authentication: what RDS has behind its role `rds_iam` and its AWSAuthenticationPlugin, as an LDAP server.

RDS's PostgreSQL takes from a member of `rds_iam` a token in place of a password, in clear over TLS, and asks IAM about it. A
stock server can ask an LDAP server about a name and a password (pg_hba's `ldap`, a simple bind), so this one looks at the
token: signature, user, host, port, Region, age; whether the cluster has IAM authentication on; and, as the test says, whether
IAM allows it. Whoever signed it is noted with the right that it takes (deeds.py). MariaDB asks through a plugin of RDS's plugin's
name (aws_authentication_plugin.c), which hands on what the client sends it in clear.
"""

import datetime
import hashlib
import hmac
import io
import re
import socketserver
import threading
from urllib.parse import parse_qsl, quote

SECRET_KEY = "local"  # everybody's here, see stack.py
LONGEST_SECONDS = 900
SUCCESS, INVALID_CREDENTIALS, PROTOCOL_ERROR = 0, 49, 2
TOKEN = re.compile(r"(?P<host>[^/?]+):(?P<port>\d+)/\?(?P<query>.+)")
SCOPE = re.compile(r"(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/rds-db/aws4_request")


class Refused(Exception):
    """Why a token lets nobody in. The server says less."""


def signature(host, query, day, region):
    """Signature Version 4 of `GET https://host/?query`, as IAM computes it. `host` is with its port."""

    def keyed(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    asked = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    request = "\n".join(["GET", "/", asked, f"host:{host}", "", "host", hashlib.sha256(b"").hexdigest()])
    scope = f"{day}/{region}/rds-db/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, region, "rds-db", "aws4_request"):
        key = keyed(key, part)
    return keyed(key, text).hex()


def signer_of(token, user, host, region, now=None):
    """The access key that signed a token for this user, at `host:port` in this Region, now; else `Refused`."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    parts = TOKEN.fullmatch(token)
    if not parts:
        raise Refused("it is no token")
    pairs = parse_qsl(parts["query"], keep_blank_values=True, strict_parsing=True)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Refused("it says something twice")
    signed = query.pop("X-Amz-Signature", "")
    known = {"Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"}
    if set(query) - {"X-Amz-Security-Token"} != known:
        raise Refused(f"it holds {sorted(query)}")
    scope = SCOPE.fullmatch(query["X-Amz-Credential"])
    if not scope or (query["Action"], query["X-Amz-Algorithm"], query["X-Amz-SignedHeaders"]) != ("connect", "AWS4-HMAC-SHA256", "host"):
        raise Refused("it is signed for something else")
    if f"{parts['host']}:{parts['port']}" != host:
        raise Refused(f"it is for {parts['host']}:{parts['port']}, not {host}")
    if (query["DBUser"], scope["region"]) != (user, region):
        raise Refused(f"it is for {query['DBUser']} in {scope['region']}, not {user} in {region}")
    began = datetime.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    age, lasts = (now - began).total_seconds(), int(query["X-Amz-Expires"])
    if scope["day"] != query["X-Amz-Date"][:8] or not 0 < lasts <= LONGEST_SECONDS or not -300 <= age < lasts:
        raise Refused(f"it is {age:.0f} s old and good for {lasts} s")
    if not hmac.compare_digest(signed, signature(host, query, scope["day"], region)):
        raise Refused("its signature is wrong")
    return scope["key"]


class Tokens:
    """The LDAP server. Who asks sends `host:port/user` as the name: PostgreSQL by its rule in pg_hba.conf, MariaDB's plugin by its environment."""

    def __init__(self):
        # Set by the stack: the cluster behind a port, as {"resource_id", "region", "is_on", "denied"}; where logins are noted.
        self.cluster_at, self.note = (lambda _port: None), (lambda *_login: None)
        self.refusals = []
        tokens = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                tokens.serve(self.rfile, self.wfile)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=True)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, name="tokens", daemon=True).start()

    def rule(self, port):
        """The line of pg_hba.conf for the server at this port."""
        return f'hostssl all +rds_iam 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={self.port} ldapprefix="localhost:{port}/"\n'

    def environment(self, port):
        """What the plugin of the MariaDB at this port needs to know."""
        return {"TOKENS_HOST": f"localhost:{port}", "TOKENS_PORT": str(self.port)}

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def serve(self, reader, writer):
        while True:
            message = element(reader)
            if message is None:
                return
            number, rest = split(message[1])
            (kind, content), _ = split(rest)
            if kind == 0x42:  # unbind
                return
            answer = PROTOCOL_ERROR
            if kind == 0x60:  # bind: version, name, password
                _, rest = split(content)
                (_, name), rest = split(rest)
                (method, password), _ = split(rest)
                if method == 0x80:  # simple
                    answer = self.bind(name.decode(), password.decode(errors="replace"))
            result = encoded(0x61, encoded(0x0A, bytes([answer])) + encoded(0x04, b"") + encoded(0x04, b""))
            writer.write(encoded(0x30, encoded(0x02, number[1]) + result))
            writer.flush()

    def bind(self, name, token):
        host, _, user = name.partition("/")
        try:
            self.check(token, user, host)
        except (Refused, ValueError) as refused:
            self.refusals.append(f"{user}: {refused}")
            return INVALID_CREDENTIALS
        return SUCCESS

    def check(self, token, user, host):
        cluster = self.cluster_at(int(host.partition(":")[2]))
        if cluster is None or not cluster["is_on"]:
            raise Refused("there is no cluster with IAM authentication")
        key = signer_of(token, user, host, cluster["region"])
        if user in cluster["denied"]:
            raise Refused("IAM does not allow it")
        self.note(key.partition("local.")[2], cluster["region"], cluster["resource_id"], user)


# BER, as far as a simple bind needs it


def encoded(tag, content):
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 0x80 else b"\x84" + size.to_bytes(4, "big")) + content


def element(reader):
    """The next (tag, content) of a stream; None at its end."""
    tag = reader.read(1)
    if not tag:
        return None
    size = reader.read(1)[0]
    if size & 0x80:
        size = int.from_bytes(reader.read(size & 0x7F), "big")
    return tag[0], reader.read(size)


def split(content):
    """The first (tag, content) of a text, and what follows."""
    reader = io.BytesIO(content)
    return element(reader), reader.read()
