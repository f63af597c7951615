#!/usr/bin/env bash
# Checks the browser client: its types, its behaviour on a clock of the tests' own, its size, and what goes to npm.
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

# What `npm pack` makes: each file of the folder, and the licence.
packed=$(npm pack --dry-run --json --no-update-notifier ../../watchdog/web/client 2>/dev/null |
    node -p 'JSON.parse(fs.readFileSync(0))[0].files.map(({ path }) => path).sort().join(" ")')
wanted=$(cd ../../watchdog/web/client && printf '%s\n' * LICENSE | LC_ALL=C sort | paste -sd ' ')
if [[ $packed != "$wanted" ]]; then
    printf 'npm pack has:   %s\nit should have: %s\n' "$packed" "$wanted" >&2
    exit 1
fi
