"""A real MySQL-compatible server behind every restored cluster of engine aurora-mysql: MariaDB, since MySQL 8 cannot be had from
the registries that the tests install from. README.md says what that proves and what not.

As in postgres.py, whose home, user, ledger and authority this uses: a template is made once, at the first restore that needs one,
and each restored cluster is a copy of it with a server of its own, reachable over TLS only. Each has a plugin of the name of RDS's, which
has IAM tokens checked by tokens.py.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from servers import Servers

INSTALL = (
    "MariaDB server and client not found. Debian/Ubuntu: apt-get install mariadb-server-core mariadb-client-core; macOS: brew install mariadb; "
    "or set MARIADB_DIR to the directory that holds sbin/mariadbd, bin/mariadb and share/mysql."
)

# What production knows and a restored copy must not accept any more; account -> password. Also the master: its password is production's.
PRODUCTION_ACCOUNTS = {
    ("master", "%"): "Production-Master-1",
    ("prod_app", "%"): "Production-App-1",
    ("prod_reporting", "localhost"): "Production-Reporting-1",
    ("alice.dba", "%"): "Production-Alice-1",
    ("Bob O'Hara", "%"): "Production-Bob-1",
    ("app_user", "localhost"): "Production-Shadow-1",
}

SETTINGS = [
    "--no-defaults", "--innodb-log-file-size=5M", "--innodb-buffer-pool-size=8M", "--aria-log-file-size=8M", "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--max-connections=40", "--character-set-server=utf8mb4",
]  # fmt: skip

# The master's rights are those of RDS's: no SUPER, no FILE, and it may hand on what it has.
PRODUCTION = """
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, PROCESS, REFERENCES, INDEX, ALTER, SHOW DATABASES, CREATE TEMPORARY TABLES,
    LOCK TABLES, EXECUTE, REPLICATION SLAVE, REPLICATION CLIENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT,
    TRIGGER, CONNECTION ADMIN ON *.* TO master@'%' WITH GRANT OPTION;
CREATE ROLE rds_superuser_role;
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE USER ON *.* TO rds_superuser_role;
GRANT rds_superuser_role TO master@'%' WITH ADMIN OPTION;
GRANT rds_superuser_role TO `alice.dba`@'%';
CREATE USER prod_iam@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;
CREATE DATABASE app;
CREATE DATABASE order_archive;
USE app;
GRANT ALL ON app.* TO prod_app@'%', app_user@localhost;
CREATE TABLE app.customers (id int AUTO_INCREMENT PRIMARY KEY, name varchar(80) NOT NULL, email varchar(120) NOT NULL);
INSERT INTO app.customers (name, email) SELECT concat('Customer ', seq), concat('customer', seq, '@example.com') FROM seq_1_to_1000;
CREATE TABLE app.orders (id int AUTO_INCREMENT PRIMARY KEY, customer int NOT NULL REFERENCES customers (id), created_at datetime NOT NULL);
INSERT INTO app.orders (customer, created_at) SELECT 1 + seq % 1000, utc_timestamp() - INTERVAL seq MINUTE FROM seq_1_to_2000;
CREATE VIEW app.recent AS SELECT * FROM app.orders WHERE created_at > utc_timestamp() - INTERVAL 1 HOUR;
CREATE TABLE order_archive.orders (id int PRIMARY KEY);
"""


# In each server's data directory, where its user can read it.
PLUGIN = "aws_authentication_plugin.so"


def build_plugin(path):
    """By the compiler that Rust links with."""
    source = Path(__file__).resolve().parent / "aws_authentication_plugin.c"
    done = subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the plugin for IAM tokens could not be built: {done.stderr[-2000:]}")


def find_installation():
    """The directory below which server, client and catalogs are."""
    for candidate in [os.environ.get("MARIADB_DIR"), "/usr", "/opt/homebrew", "/usr/local"]:
        if candidate and all(os.access(Path(candidate) / tool, os.X_OK) for tool in ("sbin/mariadbd", "bin/mariadb")):
            return Path(candidate)
    raise SystemExit(INSTALL)


def own_places(directory):
    """Where a server keeps what it has, also for a moment: one that starts removes all temporary tables that it finds, and in the
    system's directory for such it finds those of every other server of the machine."""
    return [f"--datadir={directory}", f"--tmpdir={directory}"]


def literal(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def account(user, host):
    return f"{literal(user)}@{literal(host)}"


class Plane(Servers):
    """All MariaDB servers of a stack. Clusters are named by a key of the caller's choice."""

    def __init__(self, postgres):
        self.shared, self.ledger = postgres, postgres.ledger
        self.lock = threading.RLock()
        self.servers, self.template = {}, None

    def _make_template(self):
        shared = self.shared
        self.installation = find_installation()
        directory = shared.home / "mysql-template"
        directory.mkdir(mode=0o700)
        if shared.user:
            os.chown(directory, shared.user.pw_uid, shared.user.pw_gid)
        shared._put(directory / "ca.pem", shared.ca_file.read_bytes())
        shared._put(directory / "server.crt", shared.server_certificate)
        shared._put(directory / "server.key", shared.server_key)
        build_plugin(directory / PLUGIN)
        share = self.installation / "share/mysql"
        scripts = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
        # One statement a line: that is how the server reads them.
        begin = "create database mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n"
        catalogs = begin + "".join((share / name).read_text() for name in scripts)
        bootstrap = [self.installation / "sbin/mariadbd", *SETTINGS, "--bootstrap", *own_places(directory), f"--lc-messages-dir={share}"]
        done = subprocess.run(bootstrap, input=catalogs, capture_output=True, text=True, check=False, cwd=shared.home, **shared.own)
        if done.returncode != 0:
            raise RuntimeError(f"MariaDB's catalogs could not be made: {done.stderr[-2000:]}")
        first = directory / "first.sql"
        admin = f"rdsadmin@localhost IDENTIFIED BY {literal(shared.admin_password)}"
        # The catalogs come with accounts without passwords.
        forget = "DELETE FROM mysql.global_priv WHERE User = 'root';\nFLUSH PRIVILEGES;\n"
        shared._put(first, f"CREATE USER {admin};\nGRANT ALL ON *.* TO rdsadmin@localhost WITH GRANT OPTION;\n{forget}".encode())
        server = self._start(directory, "template", f"--init-file={first}")
        try:
            made = [f"CREATE USER {account(*who)} IDENTIFIED BY {literal(password)};" for who, password in PRODUCTION_ACCOUNTS.items()]
            self._admin(server, "\n".join(made) + PRODUCTION)
        finally:
            # A clean stop, so that a copy starts without recovery.
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(30)
            self.ledger.remove(server.process.pid)
        first.unlink()
        self.template = directory

    def _start(self, directory, what, *options):
        from postgres import Server, free_port

        log_path = self.shared.run_dir / "logs" / f"mysql-{what}.log"
        share = self.installation / "share/mysql"
        for attempt in range(3):
            port = free_port()
            command = [
                self.installation / "sbin/mariadbd", *SETTINGS, *own_places(directory), f"--lc-messages-dir={share}", f"--socket={directory}/socket",
                "--bind-address=127.0.0.1", f"--port={port}", f"--ssl-ca={directory}/ca.pem", f"--ssl-cert={directory}/server.crt",
                f"--ssl-key={directory}/server.key", "--require-secure-transport=ON", f"--plugin-dir={directory}", f"--plugin-load-add={PLUGIN}", *options,
            ]  # fmt: skip
            with open(log_path, "ab") as log:
                began = log.tell()
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, start_new_session=True,
                    env=os.environ | self.shared.tokens.environment(port), **self.shared.own,
                )  # fmt: skip
            # SIGKILL: the data is thrown away.
            self.ledger.add(process.pid, f"MariaDB for {what}", signal.SIGKILL, str(self.shared.home))
            server = Server(directory, process, port)
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                if b"ready for connections" in log_path.read_bytes()[began:]:
                    return server
                time.sleep(0.02)
            self._stop(server)
        raise RuntimeError(f"MariaDB for {what} did not start:\n{log_path.read_text()[-2000:]}")

    def _stop(self, server):
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        self.ledger.remove(server.process.pid)

    def _admin(self, server, statements):
        command = [self.installation / "bin/mariadb", "--no-defaults", f"--socket={server.directory}/socket", "--user=rdsadmin"]
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "MYSQL_PWD": self.shared.admin_password}
        done = subprocess.run(command, input=statements, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"MariaDB refused: {done.stderr.strip()}")
        return done.stdout

    def _copy(self, key):
        if self.template is None:
            self._make_template()
        self.shared._run("cp", "-a", self.template, self.shared.home / key)
        return self.shared.home / key

    def set_master_password(self, key, user, password):
        with self.lock:
            server = self.servers.get(key)
            if server:
                self._admin(server, f"ALTER USER {account(user, '%')} IDENTIFIED BY {literal(password)};")


def ask(cluster, ca_file, user, password, statement):
    """What a query answers over verified TLS, a list of values a row; a text with the server's reason when it refuses."""
    command = [
        find_installation() / "bin/mariadb", "--no-defaults", "--protocol=tcp", f"--host={cluster['Endpoint']}", f"--port={cluster['Port']}",
        f"--user={user}", f"--ssl-ca={ca_file}", "--ssl-verify-server-cert", "--batch", "--skip-column-names", "--connect-timeout=5",
        "--default-character-set=utf8mb4", "--execute", statement,
    ]  # fmt: skip
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "MYSQL_PWD": password}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL)
    return [line.split("\t") for line in done.stdout.splitlines()] if done.returncode == 0 else done.stderr.strip()


if __name__ == "__main__":
    if sys.argv[1:] != ["--find"]:
        raise SystemExit("usage: mysql.py --find")
    print(find_installation())
