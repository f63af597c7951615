#!/usr/bin/env bash
# Makes a virtual environment of Python 3.11 or newer.
#
#   tests/venv.sh DIRECTORY
#
# Takes python3 if it is new enough, else the newest of python3.14 to python3.11 that is there. Debian's python3 comes
# without ensurepip: its package is installed if we may.
set -euo pipefail
venv=$1

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "Python 3.11 or newer is needed; python3 is $(python3 --version 2>/dev/null || echo 'not there')." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "python$version-venv"
fi
echo "Making $venv with $("$python" --version)"
"$python" -m venv --clear "$venv"
