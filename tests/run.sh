#!/usr/bin/env bash
# Runs the tests: those that compute, four at a time, and beside them the stories, which mostly wait, all at a time;
# then those that need the machine to themselves, two at a time.
#
#   tests/run.sh PYTHON MARKS
#
# MARKS is a pytest expression for all parts, such as "not long". A part without tests (pytest's exit code 5) is all
# right, none with tests is not. Of two parts only files that may have tests of them are read: reading all takes 10 s
# in each process (`tests/conftest.py` sees to it that no test is missed).
#
# Many tests wait for real processes and browsers, with real time-outs, on a machine that the others keep busy. So up
# to three that failed are run once more, by themselves at the end, and the last line names them: one that passes only
# then has a fault too. One that fails again fails the run.
set -euo pipefail
python=$1
marks=$2
most=3

tmp=$(mktemp --directory)
trap 'rm -rf "$tmp"' EXIT

ran=0
judge() { # the exit code of a part; 1 tells of tests that failed
    (($1 == 0 || $1 == 1 || $1 == 5)) || exit "$1"
    ran=$((ran + ($1 != 5)))
}

part() { # its name, the niceness, and what pytest is told
    nice -n "$2" "$python" -m pytest --override-ini="cache_dir=$tmp/$1" "${@:3}"
}

naming() { # test files with this word; without one pytest looks at all
    grep --recursive --files-with-matches --include='test_*.py' --exclude-dir='.*' --exclude-dir=node_modules \
        --extended-regexp -- "$1" . || true
}

failed() { # the names of the tests that failed
    "$python" - "$tmp" <<'END'
import json, pathlib, sys

for path in sorted(pathlib.Path(sys.argv[1]).glob("*/v/cache/lastfailed")):
    for name in json.loads(path.read_text()):
        print(name)
END
}

mapfile -t files < <(naming 'story|stories|floor')
part stories 0 -m "($marks) and story" "${files[@]}" >"$tmp/told" 2>&1 &
stories=$!
# Those who wait for an answer go first.
computed=0
part computed 10 -n 4 --dist worksteal -m "($marks) and not serial and not story" || computed=$?
waited=0
wait "$stories" || waited=$?
cat "$tmp/told"
judge "$computed"
judge "$waited"

alone=0
mapfile -t files < <(naming serial)
part alone 0 -n 2 -m "($marks) and serial" "${files[@]}" || alone=$?
judge "$alone"
((ran)) || exit 5

((computed == 1 || waited == 1 || alone == 1)) || exit 0
mapfile -t names < <(failed)
if ((${#names[@]} == 0 || ${#names[@]} > most)); then
    printf 'failed: %s\n' "${names[@]:-see above}"
    exit 1
fi
part again 0 "${names[@]}"
printf 'passed only when run once more, by itself: %s\n' "${names[@]}"
