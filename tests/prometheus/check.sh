#!/usr/bin/env bash
# Checks the rules of deploy/prometheus, and tries each alert on made-up numbers.
#
#   tests/prometheus/check.sh
#
# Needs promtool. Where it is missing it says so and that is all right, but not in continuous integration (CI).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! command -v promtool >/dev/null; then
    echo "no promtool here: alerts not checked" >&2
    [[ -z ${CI:-} ]]
    exit
fi
promtool check rules deploy/prometheus/watchdog.rules.yml
promtool check config deploy/prometheus/prometheus.yml >/dev/null
promtool test rules tests/prometheus/watchdog.test.yml
