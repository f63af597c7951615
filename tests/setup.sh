#!/usr/bin/env bash
# Installs what pip cannot: packages of Debian or Ubuntu.
#
#   tests/setup.sh nginx:nginx chromium-driver:chromedriver python3-venv
#
# Each argument is a package and, behind a colon, the command that it brings; a package whose command is there
# already counts as installed. Needs root or sudo without a password; without them it says what to install and fails.
set -euo pipefail

missing=()
for item in "$@"; do
    package=${item%%:*}
    command=${item#*:}
    [[ $item == *:* ]] && command -v "$command" >/dev/null 2>&1 && continue
    dpkg -s "$package" >/dev/null 2>&1 && continue
    missing+=("$package")
done
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Please install these first (names as in Debian): ${missing[*]}" >&2
    exit 1
fi
if [[ $(id -u) == 0 ]]; then
    root=()
elif sudo -n true 2>/dev/null; then
    root=(sudo -n)
else
    echo "Please run this first, then try again: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "Installing ${missing[*]} with apt-get"
export DEBIAN_FRONTEND=noninteractive
# Debian starts a service as soon as it is installed, e.g. nginx on port 80; the tests start their own.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
fi
install=("${root[@]}" apt-get -qq install --yes --no-install-recommends "${missing[@]}")
# The package lists may be missing or old: read them again only if the install fails without.
"${install[@]}" >/dev/null 2>&1 || { "${root[@]}" apt-get -qq update && "${install[@]}" >/dev/null; }

# Nor may it start with the machine from now on: its package has enabled it. This is what `systemctl disable` does.
for package in "${missing[@]}"; do
    dpkg -L "$package" | sed -n 's|.*/systemd/system/\([^/]*\.service\)$|\1|p' | while read -r unit; do
        "${root[@]}" find /etc/systemd/system -path '*.wants/*' -name "$unit" -type l -delete 2>/dev/null || true
    done
done
