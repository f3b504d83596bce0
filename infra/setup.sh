#!/bin/sh
# Installs what lints and deploys the infrastructure: below $1 (.local when left out) an environment `infra` (sam, cfn-lint,
# parliament, the AWS CLI) and one for checkov. uv does it: plain pip looks for versions of sam for over ten minutes.
# Quick when there is nothing to do.
#
#   setup.sh [FOLDER [infra | checkov]]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
tools=${1:-$root/.local}
python=${PYTHON:-python3}

hash_of() {
    "$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

install() { # environment, requirements
    stamp="$tools/$1/.requirements"
    wanted=$(hash_of "$2")
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    echo "Installing $1's Python packages into $tools/$1..." >&2
    if [ ! -x "$tools/uv/bin/uv" ]; then
        "$python" -m venv "$tools/uv"
        "$tools/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
    fi
    "$tools/uv/bin/uv" venv --quiet --clear --python "$python" "$tools/$1"
    "$tools/uv/bin/uv" pip install --quiet --python "$tools/$1/bin/python" -r "$2"
    echo "$wanted" >"$stamp"
}

mkdir -p "$tools"
[ "${2:-infra}" = infra ] && install infra "$here/requirements.txt"
[ "${2:-checkov}" = checkov ] && install checkov "$here/checkov.txt"
true
