"""The functions as they are deployed: built by sam, looked at, zipped."""

import os
import platform
import re
import shutil
import struct
import subprocess
import zipfile

from cfn import ROOT, load, read_toml

BUILD = ROOT / ".aws-sam" / "build"
VENV = ROOT / ".local" / "venv"
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
ELF_MACHINES = {62: "x86_64", 183: "arm64"}
# The C library of provided.al2023.
NEWEST_GLIBC = (2, 34)


def say(text):
    print(f"- {text}", flush=True)


def binaries():
    """{function of the template: its binary}"""
    resources = load()["Resources"].items()
    return {name: made["Metadata"]["BuildProperties"]["Binary"] for name, made in resources if made["Type"] == "AWS::Serverless::Function"}


def profile():
    """sam builds Rust functions with cargo's release profile: the variables that make it Cargo.toml's [profile.lambda].

    cargo-lambda's own idea of a release build would win over them (panic = abort among it): Cargo.toml turns that off.
    """
    settings = read_toml(ROOT / "Cargo.toml")["profile"]["lambda"]
    return {f"CARGO_PROFILE_RELEASE_{name.upper().replace('-', '_')}": str(value).lower() for name, value in settings.items() if name != "inherits"}


def is_own(architecture):
    """Whether this machine is of the kind that the functions run on."""
    return (platform.system(), platform.machine()) == ("Linux", TARGETS[architecture].partition("-")[0])


def build_environment(architecture):
    """Variables for sam and cargo-lambda, which is in the environment of the local stack. Says what this machine lacks."""
    path = os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", "")])
    environment = {**os.environ, **profile(), "PATH": path, "SAM_CLI_TELEMETRY": "0"}
    if is_own(architecture):
        # Without it cargo-lambda wants zig, which only building for another machine needs.
        return {"CARGO_LAMBDA_COMPILER": "cargo", **environment}
    target, lacks = TARGETS[architecture], []
    rustup = shutil.which("rustup")
    if not rustup or target not in subprocess.run([rustup, "target", "list", "--installed"], capture_output=True, text=True, check=False).stdout.split():
        lacks.append(f"rustup target add {target}")
    has_zig = shutil.which("zig", path=path) or subprocess.run([VENV / "bin" / "python", "-c", "import ziglang"], capture_output=True, check=False).returncode == 0
    if "CARGO_LAMBDA_COMPILER" not in environment and not has_zig:
        lacks.append(".local/venv/bin/python -m pip install ziglang")
    if lacks:
        own = next((f", or build for this machine: make package ARCH={one}, with Architecture={one} in samconfig.toml" for one in TARGETS if is_own(one)), "")
        raise SystemExit(f"Building for {architecture} needs:\n  " + "\n  ".join(lacks) + own)
    return environment


def build(architecture, sam, run):
    environment = build_environment(architecture)
    # sam builds one function after the other: all at once first, so that no core waits while another links.
    bins = [word for name in binaries().values() for word in ("--bin", name)]
    run(["cargo", "lambda", "build", "--release", "--locked", *(["--arm64"] if architecture == "arm64" else []), *bins], environment)
    run([sam, "build", "--template-file", ROOT / "infra" / "template.yaml", "--parameter-overrides", f"Architecture={architecture}"], environment)
    check(architecture)
    for name in binaries():
        archive = BUILD.parent / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(BUILD / name / "bootstrap", "bootstrap")
        say(f"{os.path.relpath(archive, ROOT)}: {archive.stat().st_size / 1e6:.1f} MB")


def check(architecture):
    """Refuses what Lambda could not start."""
    wrong = [f"{name}: {problem}" for name in binaries() if (problem := problem_of(BUILD / name / "bootstrap", architecture))]
    if wrong:
        raise SystemExit("Not what Lambda can run:\n  " + "\n  ".join(wrong) + f"\nmake package ARCH={architecture}")


def problem_of(bootstrap, architecture):
    if not bootstrap.exists():
        return "is not packaged yet"
    code = bootstrap.read_bytes()
    machine = ELF_MACHINES.get(struct.unpack_from("<H", code, 18)[0]) if code[:4] == b"\x7fELF" else None
    if machine != architecture:
        return f"is built for {machine or 'another system'}, not for {architecture}"
    # The names of the versions that its symbols ask for.
    newest = max((tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", code)), default=(0, 0))
    if newest > NEWEST_GLIBC:
        return f"needs glibc {newest[0]}.{newest[1]}, Lambda has {NEWEST_GLIBC[0]}.{NEWEST_GLIBC[1]}: install ziglang as for another machine, and CARGO_LAMBDA_COMPILER=cargo-zigbuild"
    return None
