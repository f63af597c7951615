#!/usr/bin/env bash
# Runs the tests in three parts: those that share the machine; those whose processes need most of it, two at a time; and
# the stories, which mostly wait, all at a time.
#
#   tests/run.sh PYTHON MARKS
#
# MARKS is a pytest expression for all parts, such as "not long". A part without tests (pytest's exit code 5) is all
# right, none with tests is not. The first part that fails ends the run, so that its summary is the last line.
set -euo pipefail
python=$1
marks=$2

part() {
    local code=0
    "$python" -m pytest "$@" || code=$?
    ((code == 0 || code == 5)) || exit "$code"
    ran=$((ran + (code == 0)))
}

ran=0
part -n 2 -m "($marks) and not serial and not story"
part -n 2 -m "($marks) and serial"
part -m "($marks) and story"
((ran)) || exit 5
