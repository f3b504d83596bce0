"""A real PostgreSQL behind every restored cluster: the data plane of the local stack.

A *template* is made once: the data directory of a production cluster as a restore finds it, with RDS's own roles, logins
whose passwords production knows, and data (production/*.sql). Restoring a cluster is a copy of that directory and a server
on a port of its own, reachable over TLS only, with a certificate of the stack's own authority.
"""

import datetime
import glob
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from servers import Servers
from tokens import Tokens

HERE = Path(__file__).resolve().parent
INSTALL = "PostgreSQL server binaries not found. Debian/Ubuntu: apt-get install postgresql; macOS: brew install postgresql@16; or set POSTGRES_BIN_DIR."

# What production knows and a restored copy must not accept any more. Also the master user: its password is production's.
PRODUCTION_LOGINS = {
    "master": "Production-Master-1",
    "prod_app": "Production-App-1",
    "prod_reporting": "Production-Reporting-1",
    "prod_etl": "Production-Etl-1",
    "prod_batch": "Production-Batch-1",
    "alice.dba": "Production-Alice-1",
    "Bob O'Hara": "Production-Bob-1",
}

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
shared_buffers = 16MB
password_encryption = 'scram-sha-256'
# A copy that is thrown away needs no protection from power cuts.
fsync = off
full_page_writes = off
synchronous_commit = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
# A statement that fails may hold a password, and the log outlives the test.
log_min_error_statement = panic
"""

# Nobody logs in without TLS. RDS keeps its own database and its own superuser to itself.
ACCESS = """
local   all       rdsadmin                scram-sha-256
hostssl rdsadmin  all       127.0.0.1/32  reject
hostssl all       rdsadmin  127.0.0.1/32  reject
{tokens}hostssl all       all       127.0.0.1/32  scram-sha-256
"""
# From PostgreSQL 16 on the master is, without the rights, a member of every role that it may grant, rds_iam and its members
# among them. A stock server would take tokens only from it; RDS must see that otherwise.
MASTER_HAS_A_PASSWORD = "hostssl all       master    127.0.0.1/32  scram-sha-256\n"


def find_binaries():
    """The directory of initdb and postgres: as asked for, else the newest that Debian installed, else the usual places."""

    def version(path):
        return [int(number) for number in re.findall(r"\d+", path)]

    chosen = os.environ.get("POSTGRES_BIN_DIR")
    if chosen:
        candidates = [chosen]
    else:
        candidates = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=version, reverse=True)
        candidates += sorted(glob.glob("/opt/homebrew/opt/postgresql@*/bin") + glob.glob("/usr/local/opt/postgresql@*/bin"), key=version, reverse=True)
        if shutil.which("pg_config"):
            candidates.append(subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False).stdout.strip())
        if shutil.which("postgres"):
            candidates.append(str(Path(shutil.which("postgres")).resolve().parent))
    for candidate in candidates:
        if candidate and all(os.access(Path(candidate) / tool, os.X_OK) for tool in ("initdb", "postgres")):
            return Path(candidate)
    raise SystemExit(INSTALL)


def version_with_ldap(binaries):
    """The major version of a server that can ask an LDAP server about a login, which tokens.py needs; None of another."""
    def says(tool, option):
        return subprocess.run([binaries / tool, option], capture_output=True, text=True, check=False).stdout

    if not os.access(binaries / "pg_config", os.X_OK) or "--with-ldap" not in says("pg_config", "--configure"):
        return None
    return int(re.search(r"\d+", says("postgres", "--version"))[0])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One restored cluster's PostgreSQL."""

    def __init__(self, directory, process, port):
        self.directory, self.process, self.port = directory, process, port


class Plane(Servers):
    """All PostgreSQL servers of a stack. Clusters are named by a key of the caller's choice."""

    def __init__(self, run_dir, ledger):
        self.binaries = find_binaries()
        self.run_dir, self.ledger = Path(run_dir), ledger
        self.lock = threading.RLock()
        self.servers = {}
        # None where the server cannot ask about tokens: then a member of rds_iam has to have a password.
        self.version_with_ldap = version_with_ldap(self.binaries)
        self.tokens = Tokens()
        self.admin_password = secrets.token_urlsafe(24)
        # Not in the run directory: the checkout may be where the server's unprivileged user cannot look, and a socket's
        # path may have 107 characters at most.
        self.home = Path(tempfile.mkdtemp(prefix="aurora-restore-"))
        self.user = self._unprivileged()
        # So that a start after a crash finds the directory even when no server ran.
        ledger.add(os.getpid(), "stack", directory=str(self.home))
        self.own = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        if self.user:
            os.chown(self.home, self.user.pw_uid, self.user.pw_gid)
        self.template = self.home / "template"
        self.failure = None
        self.ca_file = self.run_dir / "ca.pem"
        self._make_certificates()
        # Made while the rest of the stack starts: nobody needs it before the first restore.
        self.preparing = threading.Thread(target=self._prepare, name="template", daemon=True)
        self.preparing.start()

    @staticmethod
    def _unprivileged():
        """PostgreSQL refuses to run as root: the user to run it as, or None when we are nobody special."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise SystemExit("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as.")

    def _make_certificates(self):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        now = datetime.datetime.now(datetime.timezone.utc)

        def certificate(subject, issuer, public_key, signing_key, extensions):
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(public_key)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=30))
            )
            for extension, critical in extensions:
                builder = builder.add_extension(extension, critical)
            return builder.sign(signing_key, hashes.SHA256())

        def name(text):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        def pem(thing):
            return thing.public_bytes(serialization.Encoding.PEM)

        authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = name("aurora-restore local stack")
        signs_only = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        identity = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
        root = certificate(
            authority, authority, authority_key.public_key(), authority_key,
            [(x509.BasicConstraints(ca=True, path_length=0), True), (signs_only, True), (identity, False)],
        )
        server = certificate(
            name("localhost"), authority, server_key.public_key(), authority_key,
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
                (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
                (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), False),
            ],
        )
        self.ca_file.write_bytes(pem(root))
        self.server_certificate = pem(server)
        self.server_key = server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def _run(self, *command):
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, cwd=self.home, env=self._environment(), **self.own
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")

    @staticmethod
    def _environment():
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}

    def _prepare(self):
        try:
            self._make_template()
        except BaseException as failure:  # kept for whoever waits for the template
            self.failure = failure

    def _make_template(self):
        password_file = self.home / "admin-password"
        self._put(password_file, self.admin_password.encode())
        self._run(
            self.binaries / "initdb", "-D", self.template, "-U", "rdsadmin", "-A", "scram-sha-256", f"--pwfile={password_file}",
            "--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1",
        )
        password_file.unlink()
        with open(self.template / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)
        self._put(self.template / "server.crt", self.server_certificate)
        self._put(self.template / "server.key", self.server_key)
        server = self._start(self.template, "template")
        try:
            self._fill(server)
        finally:
            # A clean stop, so that a copy starts without recovery.
            server.process.send_signal(signal.SIGINT)
            server.process.wait(30)
            self.ledger.remove(server.process.pid)

    def _put(self, path, content):
        path.write_bytes(content)
        path.chmod(0o600)
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _fill(self, server):
        from psycopg import sql

        def script(name):
            return (HERE / "production" / name).read_text()

        with self._admin(server, "postgres") as connection:
            connection.execute(script("roles.sql"))
            for role, password in PRODUCTION_LOGINS.items():
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
            connection.execute("CREATE DATABASE rdsadmin")
            connection.execute("REVOKE CONNECT ON DATABASE rdsadmin FROM PUBLIC")
            connection.execute("CREATE DATABASE app OWNER master")
            connection.execute("CREATE DATABASE analytics OWNER analytics_owner")
        for database in ("app", "analytics"):
            with self._admin(server, database) as connection:
                connection.execute(script(f"{database}.sql"))

    def _admin(self, server, database):
        import psycopg

        return psycopg.connect(
            host=str(server.directory), port=server.port, user="rdsadmin", password=self.admin_password, dbname=database, autocommit=True
        )

    def _start(self, directory, what):
        """Starts a server; with another port when somebody took the one we found free."""
        log_path = self.run_dir / "logs" / f"postgres-{what}.log"
        for attempt in range(3):
            port = free_port()
            self._put(directory / "pg_hba.conf", self._access(port).encode())
            with open(log_path, "ab") as log:
                process = subprocess.Popen(
                    [self.binaries / "postgres", "-D", directory, "-k", directory, "-p", str(port)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, env=self._environment(), start_new_session=True, **self.own,
                )
            # SIGQUIT: stop at once, the data is thrown away.
            self.ledger.add(process.pid, f"postgres for {what}", signal.SIGQUIT, str(self.home))
            server = Server(directory, process, port)
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                if self._ready(server):
                    return server
                time.sleep(0.02)
            self._stop(server)
        raise RuntimeError(f"PostgreSQL for {what} did not start:\n{log_path.read_text()[-2000:]}")

    def _access(self, port):
        """Who is let in how by the server at this port."""
        tokens = self.tokens.rule(port) if self.version_with_ldap else ""
        first = MASTER_HAS_A_PASSWORD if self.version_with_ldap and self.version_with_ldap >= 16 else ""
        return ACCESS.format(tokens=first + tokens)

    @staticmethod
    def _ready(server):
        # The server writes its state into the pid file; a port that answers may be somebody else's.
        try:
            lines = (server.directory / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(server.process.pid) and lines[7].strip() == "ready"

    def _stop(self, server):
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGQUIT)
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        self.ledger.remove(server.process.pid)

    def wait_ready(self):
        self.preparing.join()
        if self.failure:
            raise RuntimeError(f"the production template could not be made: {self.failure}") from self.failure

    def restore(self, key, name):
        self.wait_ready()
        return super().restore(key, name)

    def _copy(self, key):
        # Cheap where the file system shares blocks between copies, a plain copy elsewhere.
        flags = ["-cRp"] if platform.system() == "Darwin" else ["-a", "--reflink=auto"]
        self._run("cp", *flags, self.template, self.home / key)
        return self.home / key

    def set_master_password(self, key, user, password):
        from psycopg import sql

        with self.lock:
            server = self.servers.get(key)
            if server:
                with self._admin(server, "postgres") as connection:
                    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(password)))

    def close(self):
        self.preparing.join(30)
        self.destroy_all()
        self.tokens.close()
        shutil.rmtree(self.home, ignore_errors=True)
        self.ledger.remove(os.getpid())


if __name__ == "__main__":
    if sys.argv[1:] != ["--find"]:
        raise SystemExit("usage: postgres.py --find")
    print(find_binaries())
