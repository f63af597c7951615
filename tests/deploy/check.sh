#!/usr/bin/env bash
# Checks what is in deploy/ and the Dockerfile with the tools of those who read it.
#
#   tests/deploy/check.sh DIRECTORY
#
# The directory has the commands of the development requirements. The other tools are packages of Debian (systemd,
# haproxy, caddy, prometheus), and kubectl 1.21 or newer. Where one of the packages is missing it says so and that is all
# right, but not in continuous integration (CI).
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

missing() {
    echo "no $1 here: $2 not checked" >&2
    [[ -z ${CI:-} ]]
}

quietly() {
    "$@" >"$scratch/out" 2>&1 || { cat "$scratch/out" >&2; return 1; }
}

if [[ -x $bin/hadolint ]]; then
    "$bin/hadolint" Dockerfile
else
    missing hadolint Dockerfile # it has no wheel for every machine
fi

quietly "$bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose*/compose.yaml
"$bin/cfn-lint" --non-zero-exit-code informational -- deploy/ecs/*.yaml

if command -v kustomize >/dev/null; then
    build=(kustomize build)
elif command -v kubectl >/dev/null; then
    build=(kubectl kustomize)
else
    build=()
fi
if ((${#build[@]})); then
    # The example as it is, and with what is commented out in it.
    cp -r deploy/kubernetes "$scratch/kubernetes"
    cp -r "$scratch/kubernetes/example" "$scratch/kubernetes/whole"
    cp -r "$scratch/kubernetes/example" "$scratch/kubernetes/three"
    sed -i 's|\.\./base|../valkey|' "$scratch/kubernetes/three/kustomization.yaml"
    sed -i 's/^# \(components:\)/\1/; s/^#\( *- \.\.\/components\/\)/\1/' "$scratch/kubernetes/whole/kustomization.yaml"
    for name in base example whole valkey three; do
        "${build[@]}" "$scratch/kubernetes/$name" >"$scratch/$name.yaml"
        for version in 1.29.0 1.37.0; do
            quietly "$bin/kubernetes-validate" --strict -k "$version" "$scratch/$name.yaml"
            # A kind that it does not know is no fault for it.
            if grep WARN "$scratch/out" | grep -v 'kind ServiceMonitor with api version monitoring.coreos.com/v1' >&2; then
                exit 1
            fi
        done
    done
    grep -q 'kind: ServiceMonitor' "$scratch/whole.yaml"
    grep -q 'kind: Deployment' "$scratch/three.yaml"
    quietly "$bin/kubernetes-validate" --strict deploy/kubernetes/example/secret.example.yaml
else
    # Debian's kubectl is too old, so it is not asked for.
    echo "no kubectl or kustomize here: deploy/kubernetes not checked" >&2
fi

if command -v systemd-analyze >/dev/null; then
    unit=connect-presence-watchdog.service
    # The program is not where the unit has it.
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "deploy/systemd/$unit" >"$scratch/$unit"
    # Whatever it has to say is a fault, though its exit code is 0 for some of them.
    systemd-analyze verify --man=no --recursive-errors=no "$scratch/$unit" 2>&1 | tee "$scratch/out"
    [[ ! -s $scratch/out ]]
    # Of 10, in tenths: the network is what it is for.
    quietly systemd-analyze security --offline=true --no-pager --threshold=15 "$scratch/$unit"
else
    missing systemd-analyze deploy/systemd
fi

if command -v haproxy >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=x -keyout "$scratch/key" -out "$scratch/cert" 2>/dev/null
    cat "$scratch/cert" "$scratch/key" >"$scratch/watchdog.pem"
    for file in deploy/compose*/haproxy.cfg; do
        sed "s|/[a-z/]*/watchdog.pem|$scratch/watchdog.pem|" "$file" >"$scratch/haproxy.cfg"
        quietly haproxy -c -f "$scratch/haproxy.cfg"
        # The names of containers are known among them alone.
        if grep WARNING "$scratch/out" | grep -v 'could not resolve address' >&2; then
            exit 1
        fi
    done
else
    missing haproxy 'deploy/compose*/haproxy.cfg'
fi

if command -v caddy >/dev/null; then
    HOME=$scratch SITE=watchdog.example.com quietly caddy validate --adapter caddyfile --config deploy/compose/Caddyfile
else
    missing caddy deploy/compose/Caddyfile
fi
if command -v promtool >/dev/null; then
    cp deploy/prometheus/watchdog.rules.yml "$scratch"
    for file in deploy/compose*/prometheus.yml; do
        sed 's|/run/secrets/metrics-token|/dev/null|' "$file" >"$scratch/prometheus.yml"
        quietly promtool check config "$scratch/prometheus.yml"
    done
else
    missing promtool 'deploy/compose*/prometheus.yml'
fi
echo "deploy/: nothing to complain of"
