#!/bin/sh
# Makes .local/venv with what the local stack needs. Says what to install when a tool is missing; with --tests, also what only
# the tests need.
# Quick when there is nothing to do: a stamp holds the hash of the requirements it was made from.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv="$root/.local/venv"
requirements="$here/requirements.txt"
missing=""

note() {
    missing="$missing
  - $1"
}

# The interpreter can be chosen, since the system's may be too old (macOS has 3.9).
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    note "python3, 3.10 or newer. Debian/Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.12"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    note "python3 is $("$python" -V 2>&1), 3.10 or newer is needed (set PYTHON=... to choose another)"
elif ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    note "python3's venv module. Debian/Ubuntu: apt-get install python3-venv"
fi

command -v cargo >/dev/null 2>&1 || note "cargo (Rust). See https://rustup.rs, or Debian/Ubuntu: apt-get install rustup"

# One place knows where PostgreSQL's server binaries may be: postgres.py. It needs nothing but Python.
if command -v "$python" >/dev/null 2>&1 && ! "$python" "$here/postgres.py" --find >/dev/null 2>&1; then
    note "PostgreSQL server binaries with TLS. Debian/Ubuntu: apt-get install postgresql; macOS: brew install postgresql@16
    (somewhere unusual: set POSTGRES_BIN_DIR to the directory that holds initdb and postgres)"
fi

if [ "${1:-}" = --tests ] && command -v "$python" >/dev/null 2>&1 && ! "$python" "$here/mysql.py" --find >/dev/null 2>&1; then
    note "MariaDB server and client, for the tests of MySQL. Debian/Ubuntu: apt-get install mariadb-server-core mariadb-client-core;
    macOS: brew install mariadb (somewhere unusual: set MARIADB_DIR to the directory that holds sbin/mariadbd, bin/mariadb and share/mysql)"
fi

if [ "${1:-}" = --tests ] && ! command -v cc >/dev/null 2>&1; then
    note "cc, a C compiler, which Rust links with too. Debian/Ubuntu: apt-get install gcc; macOS: xcode-select --install"
fi

if [ -n "$missing" ]; then
    echo "The local stack needs:$missing" >&2
    exit 1
fi

stamp="$venv/.requirements"
wanted=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$requirements")
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

echo "Installing the local stack's Python packages into ${venv#"$root"/} (about 20 seconds)..." >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# --no-deps: the file lists everything, and cargo-lambda would bring a 90 MB compiler that running functions never uses.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$requirements"
echo "$wanted" >"$stamp"
