#!/usr/bin/env bash
# Checks the browser client: its types, its behaviour on a clock of the tests' own, and its size.
#
#   tests/client/check.sh
#
# Needs node and npm. Where they are missing it says so and that is all right, but not in continuous integration (CI).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "no node here: browser client not checked" >&2
    [[ -z ${CI:-} ]]
    exit
fi
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
    echo "Installing the tools of the browser client's tests into tests/client/node_modules"
    npm ci --ignore-scripts --no-audit --no-fund --silent
fi
node_modules/.bin/tsc --project .
node --test --test-reporter=dot ./*.test.mjs
