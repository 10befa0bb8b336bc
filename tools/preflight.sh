#!/bin/sh
# Finds what a build needs and, where something is missing, names the one command that cures it.
#
#   tools/preflight.sh           check everything and say what was found
#   tools/preflight.sh --python  check everything; print only the Python to use
#
# PYTHON=/path/to/python overrides the search. Plain sh, so that it runs before anything else can.

set -u
cd "$(dirname "$0")/.." || exit 1

# rustup puts its tools there and asks for a new shell; an old shell should work too.
PATH="${HOME:-/nonexistent}/.cargo/bin:$PATH"
export PATH

RUSTUP="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
UV_PYTHON='curl -LsSf https://astral.sh/uv/install.sh | sh && "$HOME/.local/bin/uv" python install --default 3.13'

need_rust=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)
problems=''
packages='' # for the system's package manager
commands='' # that come after it

problem() { problems="$problems  $1
"; }
want_package() { packages="$packages $1"; }
want_command() { commands="${commands:+$commands && }$1"; }

# --- Python ---------------------------------------------------------------------------------------

# Prints "ok", "novenv" or why the interpreter cannot be used. A name on PATH may be a shim that
# only explains itself, so each is run.
judge_python() {
    "$1" - 2>/dev/null <<'PYTHON' || echo "does not run"
import sys
import sysconfig
if sys.version_info < (3, 11):
    print("is Python %d.%d; 3.11 or newer is needed" % sys.version_info[:2])
elif sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("is not a standard CPython; the wheel is built for its stable ABI")
else:
    try:
        import ensurepip, venv
    except ImportError:
        print("novenv")
    else:
        print("ok")
PYTHON
}

python=''
without_venv='' # the first that only lacks this
want_python=''
if [ -n "${PYTHON:-}" ]; then
    verdict=$(judge_python "$PYTHON")
    case $verdict in
        ok) python=$PYTHON ;;
        novenv) without_venv=$PYTHON ;;
        *) problem "PYTHON=$PYTHON $verdict"; want_command 'PYTHON= make' ;;
    esac
else
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        command -v "$name" >/dev/null 2>&1 || continue
        case $(judge_python "$name") in
            ok) python=$name; break ;;
            novenv) : "${without_venv:=$name}" ;;
        esac
    done
    if [ -z "$python" ] && [ -z "$without_venv" ]; then
        problem 'Python 3.11 or newer: none found on PATH'
        want_python=yes
    fi
fi
if [ -z "$python" ] && [ -n "$without_venv" ]; then
    problem "$without_venv cannot make virtual environments: its modules venv and ensurepip are missing"
    want_python=yes
fi

version_of_python() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

cure_python() {
    if command -v apt-get >/dev/null 2>&1; then
        if [ -n "$without_venv" ]; then
            want_package "python$(version_of_python "$without_venv")-venv"
            return
        fi
        for version in 3.14 3.13 3.12 3.11; do
            if apt-cache show "python$version-venv" >/dev/null 2>&1; then
                want_package "python$version-venv"
                return
            fi
        done
        # No package lists yet, as in a new container: the usual name is worth a try.
        if apt-cache show python3 >/dev/null 2>&1; then want_command "$UV_PYTHON"
        else want_package python3-venv
        fi
    elif command -v dnf >/dev/null 2>&1; then want_package python3.12
    elif command -v apk >/dev/null 2>&1; then want_package python3
    elif command -v pacman >/dev/null 2>&1; then want_package python
    elif command -v zypper >/dev/null 2>&1; then want_package python312
    elif command -v brew >/dev/null 2>&1; then want_package python@3.13
    else want_command "$UV_PYTHON"
    fi
}
if [ -n "$want_python" ]; then cure_python; fi

# --- Rust -----------------------------------------------------------------------------------------

# at_least FOUND NEEDED: both are dotted numbers.
at_least() {
    awk -v found="$1" -v needed="$2" 'BEGIN {
        split(found, f, "."); split(needed, n, ".")
        for (i = 1; i <= 3; i++) if (f[i] + 0 != n[i] + 0) exit !(f[i] + 0 > n[i] + 0)
    }'
}

rust=$(rustc --version 2>/dev/null | awk '{ print $2 }' | sed 's/-.*//')
if [ -z "$rust" ] || ! command -v cargo >/dev/null 2>&1; then
    if command -v rustup >/dev/null 2>&1; then
        problem 'cargo and rustc: rustup is here but has no default toolchain'
        want_command 'rustup default stable'
    else
        problem "cargo and rustc $need_rust or newer: not found"
        want_command "$RUSTUP"
    fi
elif ! at_least "$rust" "$need_rust"; then
    problem "rustc is $rust; $need_rust or newer is needed"
    if command -v rustup >/dev/null 2>&1; then
        want_command 'rustup update stable && rustup default stable'
    else
        want_command "$RUSTUP"
    fi
fi

# --- a linker -------------------------------------------------------------------------------------

if ! command -v cc >/dev/null 2>&1; then
    problem 'cc: no C compiler, which Rust needs to link'
    if command -v apt-get >/dev/null 2>&1; then want_package 'gcc libc6-dev'
    elif command -v apk >/dev/null 2>&1; then want_package 'gcc musl-dev'
    elif [ "$(uname -s)" = Darwin ]; then want_command 'xcode-select --install'
    else want_package gcc
    fi
fi

# --- the verdict ----------------------------------------------------------------------------------

if [ -z "$problems" ]; then
    if [ "${1:-}" = --python ]; then
        echo "$python"
    else
        echo "Python $("$python" -c 'import platform, sys; print(platform.python_version(), sys.executable)')"
        echo "Rust   $rust $(command -v rustc)"
        echo "Linker $(command -v cc)"
    fi
    exit 0
fi

case $commands in
    *curl\ *) command -v curl >/dev/null 2>&1 || want_package curl ;;
esac
sudo=''
if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null 2>&1; then sudo='sudo '; fi
if [ -n "$packages" ]; then
    if command -v apt-get >/dev/null 2>&1; then install="${sudo}apt-get update && ${sudo}apt-get install -y"
    elif command -v dnf >/dev/null 2>&1; then install="${sudo}dnf install -y"
    elif command -v apk >/dev/null 2>&1; then install="${sudo}apk add"
    elif command -v pacman >/dev/null 2>&1; then install="${sudo}pacman -S --noconfirm"
    elif command -v zypper >/dev/null 2>&1; then install="${sudo}zypper install -y"
    elif command -v brew >/dev/null 2>&1; then install='brew install'
    else install="install with your system's package manager:"
    fi
    commands="$install$packages${commands:+ && $commands}"
fi
{
    echo 'Missing:'
    printf '%s' "$problems"
    echo 'This cures it:'
    echo "  $commands"
} >&2
exit 1
