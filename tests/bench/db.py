"""What setting up the users costs: time, CPU, memory and round trips, what a login takes, and the same work done by psql one statement at a time.

    db.py --tool target/release/examples/setup_users [--databases 50] [--schemas 40] [--tables 20] [--rounds 2]

A benchmark and no test: the exit status is 0 also when a target is missed, and the table says so.
"""

import argparse
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "local"))

from pids import Ledger, end  # noqa: E402
from postgres import Plane  # noqa: E402

RUN_DIR = ROOT / ".local" / "bench"
# The functions' own certificate authorities: reading them at each login is part of what it costs.
RDS_AUTHORITIES = ROOT / "crates" / "database" / "certs" / "rds-global-bundle.pem"
MASTER, OWNERS = "master", [f"bench_owner_{number}" for number in range(1, 5)]
USERS = {
    "application_user": {
        "SCHEMA": "USAGE", "TABLE": "SELECT, INSERT, UPDATE, DELETE", "SEQUENCE": "USAGE, SELECT, UPDATE", "ROUTINE": "EXECUTE",
    },
    "readonly_user": {"SCHEMA": "USAGE", "TABLE": "SELECT", "SEQUENCE": "SELECT"},
    "devops_user": {
        "SCHEMA": "USAGE, CREATE", "TABLE": "SELECT, INSERT, UPDATE, DELETE", "SEQUENCE": "USAGE, SELECT, UPDATE", "ROUTINE": "EXECUTE",
    },
}  # fmt: skip
FIRST_SECONDS, SECOND_SECONDS, MEMORY_MB, CONNECTIONS = 10, 3, 60, 8
LOGINS, LOGIN_MS = 31, 40
# Of one run to the next the count differs a little: it depends on how the server cuts its answers to a handshake.
SAME_PERCENT = 5
# Enough databases to see whether tables count.
FEW_DATABASES, FEW_TABLES, MANY_TABLES = 5, 2, 20
AGAINST_PSQL = 2


class Proxy:
    """Between the tool and the server: counts connections and round trips, from outside of TLS.

    A round trip is a change of speaker: the client talks after the server did (or first). Its goodbye counts too.
    """

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.lock = threading.Lock()
        self.connections = self.now = self.most = self.round_trips = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self):
        """What was counted since the last time."""
        with self.lock:
            counted = {"connections": self.connections, "most": self.most, "round_trips": self.round_trips}
            self.connections, self.most, self.round_trips = 0, self.now, 0
            return counted

    def close(self):
        # `close` alone does not wake the thread that waits for a connection.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with self.lock:
            self.connections += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            with client, socket.create_connection(self.target) as server:
                for end_of in (client, server):
                    end_of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                speaker = [None]
                answers = threading.Thread(target=self._pump, args=(server, client, "server", speaker), daemon=True)
                answers.start()
                self._pump(client, server, "client", speaker)
                answers.join()
        except OSError:
            pass
        finally:
            with self.lock:
                self.now -= 1

    def _pump(self, source, sink, name, speaker):
        try:
            while data := source.recv(65536):
                with self.lock:
                    if name == "client" and speaker[0] != name:
                        self.round_trips += 1
                    speaker[0] = name
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Bench:
    def __init__(self, plane, ledger, tool):
        self.plane, self.ledger, self.tool = plane, ledger, tool
        self.master_password, self.users_password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        plane.wait_ready()
        self.ca_file = plane.run_dir / "authorities.pem"
        self.ca_file.write_bytes(RDS_AUTHORITIES.read_bytes() + plane.ca_file.read_bytes())
        self.psql = next((path for path in (plane.binaries / "psql", shutil.which("psql")) if path and Path(path).exists()), None)

    def server(self, name, databases, schemas, tables):
        """A fresh server with so many databases, all the same; its port."""
        port = self.plane.restore(name, name)
        self.plane.set_master_password(name, MASTER, self.master_password)
        with self.connect(port, "postgres") as connection:
            # Only the bench's databases, besides the one that everybody logs in to.
            connection.execute(f"GRANT analytics_owner TO {MASTER}")
            connection.execute("DROP DATABASE analytics")
            connection.execute("DROP DATABASE app")
            for owner in OWNERS:
                connection.execute(f"CREATE ROLE {owner}")
                connection.execute(f"GRANT {owner} TO {MASTER}")
            connection.execute("CREATE DATABASE bench_1")
        with self.connect(port, "bench_1") as connection, connection.transaction():
            for number in range(1, schemas + 1):
                owner, schema = OWNERS[number % len(OWNERS)], f"schema_{number}"
                connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {owner}; SET ROLE {owner}")
                made = [f"CREATE TABLE {schema}.table_{table} (id int, amount int)" for table in range(1, tables + 1)]
                made.append(f"CREATE SEQUENCE {schema}.numbers")
                made.append(f"CREATE FUNCTION {schema}.one() RETURNS int LANGUAGE sql AS 'SELECT 1'")
                # Else everybody may call it, and there is nothing to grant.
                made.append(f"REVOKE ALL ON FUNCTION {schema}.one() FROM PUBLIC")
                connection.execute("; ".join([*made, "RESET ROLE"]))
        with self.connect(port, "postgres") as connection:
            for number in range(2, databases + 1):
                connection.execute(f"CREATE DATABASE bench_{number} TEMPLATE bench_1")
            for owner in (*OWNERS, "analytics_owner"):
                connection.execute(f"REVOKE {owner} FROM {MASTER}")
        return port

    def connect(self, port, database):
        import psycopg

        return psycopg.connect(
            host="localhost", hostaddr="127.0.0.1", port=port, user=MASTER, password=self.master_password, dbname=database,
            sslmode="verify-full", sslrootcert=self.plane.ca_file, autocommit=True,
        )  # fmt: skip

    def ours(self, port):
        """Both runs of the tool, each with what it cost on the wire."""
        proxy = Proxy(port)
        environment = {"PATH": os.environ.get("PATH", ""), "MASTER_PASSWORD": self.master_password, "USERS_PASSWORD": self.users_password}
        command = [self.tool, "localhost", str(proxy.port), self.ca_file, MASTER]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment)
        self.ledger.add(process.pid, "setup_users")
        try:
            runs = []
            for line in process.stdout:
                runs.append(json.loads(line) | proxy.take())
            if process.wait() != 0 or len(runs) != 2:
                raise SystemExit("the users could not be set up, see above")
            return runs
        finally:
            end(process)
            self.ledger.remove(process.pid)
            proxy.close()

    def login(self, port):
        """What a login takes, ours and sqlx's own in turn, straight to the server: medians in milliseconds."""
        environment = {"PATH": os.environ.get("PATH", ""), "MASTER_PASSWORD": self.master_password}
        command = [self.tool.with_name("logins"), "postgres", "localhost", str(port), self.ca_file, MASTER, str(LOGINS)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    def statements(self, databases, schemas):
        """The same rights as a script gives them: a statement for each schema, kind of object and user.

        What PUBLIC has anyway is left out: to connect, and to use `public`.
        """
        for owner in OWNERS:
            yield "postgres", f"GRANT {owner} TO {MASTER}"
        for user in USERS:
            yield "postgres", f"CREATE ROLE {user} LOGIN PASSWORD '{self.users_password}'"
        yield "postgres", "GRANT pg_monitor, pg_signal_backend TO devops_user"
        yield "postgres", f"GRANT devops_user TO {MASTER}"
        for database in [f"bench_{number}" for number in range(1, databases + 1)]:
            for user, rights in USERS.items():
                for schema in [f"schema_{number}" for number in range(1, schemas + 1)]:
                    for kind, privileges in rights.items():
                        of = f"SCHEMA {schema}" if kind == "SCHEMA" else f"ALL {kind}S IN SCHEMA {schema}"
                        yield database, f"GRANT {privileges} ON {of} TO {user}"
                for owner in (*OWNERS, MASTER, "devops_user"):
                    for kind, privileges in rights.items():
                        if owner != user:
                            yield database, f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT {privileges} ON {kind}S TO {user}"

    def one_at_a_time(self, port, databases, schemas):
        """Seconds and number of statements of the psql loop, straight to the server."""
        environment = {
            "PATH": os.environ.get("PATH", ""), "PGHOST": "localhost", "PGHOSTADDR": "127.0.0.1", "PGPORT": str(port), "PGUSER": MASTER,
            "PGPASSWORD": self.master_password, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.ca_file),
        }  # fmt: skip
        statements = list(self.statements(databases, schemas))
        began = time.monotonic()
        for database, statement in statements:
            # By stdin: one of them holds a password.
            command = [self.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database]
            subprocess.run(command, check=True, input=f"{statement};\n", text=True, env=environment)
        return time.monotonic() - began, len(statements)

    def rights(self, port, database):
        """What the three users were granted in a database, to compare two ways of granting it."""
        query = """
            SELECT o.kind, o.name, g.rolname::text, a.privilege_type
            FROM (SELECT 'schema' AS kind, nspname::text AS name, nspacl AS acl FROM pg_namespace WHERE nspname <> 'public'
                  UNION ALL SELECT 'relation', oid::regclass::text, relacl FROM pg_class
                  UNION ALL SELECT 'routine', oid::regprocedure::text, proacl FROM pg_proc
                  UNION ALL SELECT 'later', defaclrole::regrole::text || defaclobjtype::text, defaclacl FROM pg_default_acl) o,
                 aclexplode(o.acl) a JOIN pg_roles g ON g.oid = a.grantee
            WHERE g.rolname = ANY (%s)"""
        with self.connect(port, database) as connection:
            return set(connection.execute(query, [list(USERS)]).fetchall())


def table(rows):
    rows = [("figure", "target", "measured", ""), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(bench, arguments):
    def row(figure, measured, unit, target):
        return figure, f"at most {target} {unit}", f"{measured} {unit}", "ok" if float(measured) <= target else "NOT"

    databases, schemas, tables = arguments.databases, arguments.schemas, arguments.tables
    say(f"{databases} databases of {schemas} schemas with {tables} tables each ...")
    port = bench.server("all", databases, schemas, tables)
    first, second = bench.ours(port)
    login = bench.login(port)
    bench.plane.destroy("all")
    rows = [
        row(f"first run, {first['changes']} changes", f"{first['seconds']:.2f}", "s", FIRST_SECONDS),
        row(f"second run, {second['changes']} changes", f"{second['seconds']:.2f}", "s", SECOND_SECONDS),
    ]
    if first["cpu_seconds"] is not None:
        both = second["cpu_seconds"]
        rows.append(("CPU of the tool, first and second run", "", f"{first['cpu_seconds']:.2f} and {both - first['cpu_seconds']:.2f} s", ""))
    rows.append(row("a login over TLS", login["ours_ms"], "ms", LOGIN_MS))
    rows.append(("the same as sqlx connects by itself", "", f"{login['sqlx_ms']} ms", ""))
    if first["peak_memory_kb"]:
        for run, name in ((first, "first"), (second, "both")):
            rows.append(row(f"peak memory, {name}", f"{run['peak_memory_kb'] / 1024:.1f}", "MB", MEMORY_MB))
    else:
        rows.append(("peak memory", f"at most {MEMORY_MB} MB", "not known on this system", "?"))
    rows.append(row("connections at a time", max(first["most"], second["most"]), "", CONNECTIONS))
    for run, name in ((first, "first"), (second, "second")):
        each = run["round_trips"] / run["databases"]
        rows.append((f"round trips, {name} run", "", f"{run['round_trips']} over {run['connections']} logins, {each:.0f} a database", ""))

    counted = {}
    for count in (FEW_TABLES, MANY_TABLES):
        say(f"{FEW_DATABASES} databases of {schemas} schemas with {count} tables each ...")
        counted[count] = [run["round_trips"] for run in bench.ours(bench.server(f"tables-{count}", FEW_DATABASES, schemas, count))]
        bench.plane.destroy(f"tables-{count}")
    for position, name in enumerate(("first", "second")):
        few, many = counted[FEW_TABLES][position], counted[MANY_TABLES][position]
        same = abs(few - many) * 100 <= few * SAME_PERCENT
        figure = f"round trips, {name} run of {FEW_DATABASES} databases, {FEW_TABLES} and {MANY_TABLES} tables a schema"
        rows.append((figure, f"the same within {SAME_PERCENT} %", f"{few} and {many}", "ok" if same else "NOT"))

    rows.extend(against_psql(bench, schemas, tables, arguments.rounds) if bench.psql else [("psql", "", "not found", "?")])
    return rows


def against_psql(bench, schemas, tables, rounds):
    ours, theirs, logins, number = [], [], [], 0
    for turn in range(1, rounds + 1):
        say(f"{AGAINST_PSQL} databases, ours and psql, {turn} of {rounds} ...")
        port = bench.server("ours", AGAINST_PSQL, schemas, tables)
        first = bench.ours(port)[0]
        ours.append(first["seconds"] / AGAINST_PSQL)
        logins.append(first["connections"])
        granted = bench.rights(port, "bench_2")
        bench.plane.destroy("ours")
        port = bench.server("psql", AGAINST_PSQL, schemas, tables)
        seconds, number = bench.one_at_a_time(port, AGAINST_PSQL, schemas)
        theirs.append(seconds / AGAINST_PSQL)
        differing = granted ^ bench.rights(port, "bench_2")
        bench.plane.destroy("psql")
        if differing:
            raise SystemExit(f"psql granted something else than the tool: {sorted(differing)[:5]}")
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    return [
        (f"a database of {AGAINST_PSQL}, ours, all included", "", f"{ours:.2f} s, {logins[0]} logins for both", ""),
        (f"a database of {AGAINST_PSQL}, psql a statement at a time", "", f"{theirs:.2f} s, {number} logins for both", ""),
        ("psql takes so many times as long", "", f"{theirs / ours:.0f}", ""),
    ]


def main():
    parser = argparse.ArgumentParser(description="What setting up the users costs.")
    parser.add_argument("--tool", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "setup_users")
    parser.add_argument("--databases", type=int, default=50)
    parser.add_argument("--schemas", type=int, default=40)
    parser.add_argument("--tables", type=int, default=20, help="in each schema")
    parser.add_argument("--rounds", type=int, default=2, help="of ours against psql")
    arguments = parser.parse_args()

    (RUN_DIR / "logs").mkdir(parents=True, exist_ok=True)
    lock = open(RUN_DIR / "lock", "w")  # noqa: SIM115 held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("another benchmark is running; two would measure each other") from None
    ledger = Ledger(RUN_DIR / "processes")
    for directory in ledger.sweep()[1]:
        shutil.rmtree(directory, ignore_errors=True)

    def stop(number, _):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    plane = Plane(RUN_DIR, ledger)
    try:
        rows = measure(Bench(plane, ledger, arguments.tool), arguments)
    finally:
        plane.close()
    print(f"\n{arguments.databases} databases of {arguments.schemas} schemas with {arguments.tables} tables each, 3 users, {os.cpu_count()} cores;")
    print("server, tool and the proxy that counts on this machine; TLS and SCRAM at each login, RDS's authorities read each time.")
    print("psql: one process for each statement, straight to the server; most of its time is logins. Ours also locks inherited logins and looks twice.\n")
    table(rows)
    missed = [row[0] for row in rows if row[3] == "NOT"]
    print("\nAll targets are met." if not missed else f"\nMissed: {'; '.join(missed)}.")


if __name__ == "__main__":
    main()
