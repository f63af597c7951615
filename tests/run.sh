#!/usr/bin/env bash
# Runs the tests in two halves: those that share the machine, side by side, then those that need it for themselves.
#
#   tests/run.sh PYTHON MARKS
#
# MARKS is a pytest expression for both halves, such as "not long". A half without tests (pytest's exit code 5) is all
# right, both without are not. The first half that fails ends the run, so that its summary is the last line.
set -euo pipefail
python=$1
marks=$2

half() {
    local code=0
    "$python" -m pytest "$@" || code=$?
    ((code == 0 || code == 5)) || exit "$code"
    ran=$((ran + (code == 0)))
}

ran=0
half -n 2 --dist loadgroup -m "($marks) and not serial"
half -m "($marks) and serial"
((ran)) || exit 5
