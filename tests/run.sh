#!/usr/bin/env bash
# Runs the tests: those that compute, four at a time, and beside them the stories, which mostly wait, all at a time;
# then those that need the machine to themselves, two at a time.
#
#   tests/run.sh PYTHON MARKS
#
# MARKS is a pytest expression for all parts, such as "not long". A part without tests (pytest's exit code 5) is all
# right, none with tests is not. Of two parts only files that may have tests of them are read: reading all takes 10 s
# in each process (`tests/conftest.py` sees to it that no test is missed). A failure ends the run before the next part, and a summary that tells of one is the
# last line.
set -euo pipefail
python=$1
marks=$2

ran=0
judge() { # the exit code of a part
    (($1 == 0 || $1 == 5)) || exit "$1"
    ran=$((ran + ($1 == 0)))
}

naming() { # test files with this word; without one pytest looks at all
    grep --recursive --files-with-matches --include='test_*.py' --exclude-dir='.*' --exclude-dir=node_modules \
        --extended-regexp -- "$1" . || true
}

told=$(mktemp)
trap 'rm -f "$told"' EXIT
mapfile -t files < <(naming 'story|stories|floor')
"$python" -m pytest -m "($marks) and story" "${files[@]}" >"$told" 2>&1 &
stories=$!
# Those who wait for an answer go first.
computed=0
nice -n 10 "$python" -m pytest -n 4 --dist worksteal -m "($marks) and not serial and not story" || computed=$?
waited=0
wait "$stories" || waited=$?
# If both failed, that of the stories is the summary to be read last.
if ((computed == 0 || computed == 5 || (waited != 0 && waited != 5))); then
    cat "$told"
fi
judge "$computed"
judge "$waited"

alone=0
mapfile -t files < <(naming serial)
"$python" -m pytest -n 2 -m "($marks) and serial" "${files[@]}" || alone=$?
judge "$alone"
((ran)) || exit 5
