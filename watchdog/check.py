"""`watchdog check`: whether the daemon could do its work with these settings, and what is missing if not.

Nothing is changed: no agent, no file of a running daemon. What is said of what was seen is in `findings.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from watchdog import machine
from watchdog.connect import directory
from watchdog.connect.api import Instance
from watchdog.connect.boto import BotoConnect
from watchdog.connect.caller import default_region, own_account
from watchdog.connect.names import Listed, Named, targets
from watchdog.connect.probe import Found, Probe, Trial
from watchdog.core.quota import QuotaRules
from watchdog.errors import CertificateRefused, ConnectError, NoKeys, StoreError, StoreLocked
from watchdog.findings import Finding, State, can_be_tried, listed, of_instance, of_names
from watchdog.grants import Bus, Grant, Known, grants
from watchdog.ingest.key_source import TIMEOUT_S as KEYS_TIMEOUT_S
from watchdog.ingest.key_source import KeySource
from watchdog.ingest.tls import EXPIRES_S, Certificate
from watchdog.needs import named, uses
from watchdog.outgoing import Caller
from watchdog.settings import Settings
from watchdog.stores import trial
from watchdog.stores.address import Address
from watchdog.stores.journal import COPYING, check_copied
from watchdog.terminal import screen, waiting

CLOSE_S = 1.0
"""For so long calls that hang are waited for at the end."""

DAY_S = 86_400.0

MARKS = {State.OK: ("ok", "green"), State.FAULT: ("FAULT", "bold red"), State.UNKNOWN: ("unknown", "yellow")}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, and the policy of each principal."""

    findings: tuple[Finding, ...]
    grants: tuple[Grant, ...]

    @property
    def ok(self) -> bool:
        """Whether every finding is good."""
        return all(finding.state is State.OK for finding in self.findings)


def run(settings: Settings, *, running: bool = False, iam: bool = False, as_json: bool = False) -> int:
    """Looks, and prints what was found.

    Args:
        settings: To check.
        running: A daemon with these settings is running.
        iam: Print the policy alone.
        as_json: Print JSON in place of tables.

    Returns:
        The exit code: 0 when all is well, else 1.
    """
    with waiting("Asking AWS and the store…"):
        report = asyncio.run(examine(settings, running=running, trials=not iam))
    if iam:
        return _print_policies(report)
    if as_json:
        shown = {
            "ok": report.ok,
            "checks": [asdict(finding) for finding in report.findings],
            "policies": [asdict(grant) for grant in report.grants],
        }
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    else:
        _print_tables(report)
    return 0 if report.ok else 1


async def examine(settings: Settings, *, running: bool, trials: bool = True) -> Report:
    """Looks at everything.

    Args:
        settings: To check.
        running: A daemon with these settings is running.
        trials: Look at the store, and try the calls; without, only at what the policy needs.
    """
    instances = [
        Instance(each.instance_id, each.region or settings.region, each.role_arn, each.external_id)
        for each in settings.instances
    ]
    wanted, needed = named(settings), uses(settings)
    connect = BotoConnect(instances, machine.now)
    try:
        probe = _probe(settings, connect, instances)
        found = {each.instance_id: await probe.find(each.instance_id) for each in instances}
        findings: list[Finding] = []
        if trials:
            findings += [_of_settings(settings), *await _of_store(settings, running=running), *_of_tls(settings)]
            findings += await _of_keys(settings)
            for instance_id, what in found.items():
                tried = await _tried(probe, instance_id, what, settings, wanted) if can_be_tried(what) else []
                findings += of_instance(instance_id, what, tried, needed)
        looked = {instance_id: listed(what) for instance_id, what in found.items()}
        findings += of_names(looked, wanted)
    finally:
        await connect.close(CLOSE_S)
    known = await asyncio.to_thread(_known, instances, looked)
    bus = await asyncio.to_thread(_bus, settings)
    return Report(tuple(findings), tuple(grants(instances, known, wanted, needed, bus)))


def _probe(settings: Settings, connect: BotoConnect, instances: Sequence[Instance]) -> Probe:
    quotas = directory.quotas(settings.connect_share)
    others = QuotaRules(settings.connect_rate, settings.connect_burst, settings.connect_share)
    scopes = {each.instance_id: each.scope for each in instances}
    return Probe(connect, lambda operation: quotas.get(operation, others), scopes.__getitem__, machine.now)


async def _tried(
    probe: Probe, instance_id: str, found: Found, settings: Settings, wanted: Sequence[Named]
) -> list[Trial]:
    needed = uses(settings)
    statuses = found.statuses if isinstance(found.statuses, tuple) else ()
    chosen = statuses if needed.restores else targets(statuses, wanted)
    profiles = () if isinstance(found.profiles, ConnectError) else tuple(found.profiles)
    return await probe.trials(instance_id, needed, chosen, profiles)


def _known(instances: Sequence[Instance], looked: dict[str, Listed]) -> dict[str, Known]:
    """What a policy needs to know; STS is asked only for what Connect has not told."""
    region = default_region()
    unseen = [each for each in instances if each.role_arn is None and not looked[each.instance_id].statuses]
    account = own_account(unseen[0].region or region) if unseen else None
    return {
        each.instance_id: Known(looked[each.instance_id].statuses, account, each.region or region) for each in instances
    }


def _bus(settings: Settings) -> Bus | None:
    name = settings.eventbridge_bus
    if name is None or name.startswith("arn:"):
        return None if name is None else Bus(name)
    region = settings.region or default_region()
    return Bus(name, own_account(region), region)


def _of_settings(settings: Settings) -> Finding:
    given = sum(row.source != "default" for row in settings.describe())
    return Finding("settings", None, State.OK, f"{given} variables are set, the others have their defaults.")


async def _of_store(settings: Settings, *, running: bool) -> list[Finding]:
    address = settings.store_address
    return [_of_file(settings, running=running)] if address is None else await _of_server(address, settings.shards)


async def _of_server(address: Address, shards: int) -> list[Finding]:
    from watchdog.stores.parts import is_kept  # noqa: PLC0415 - who has a file needs none of it
    from watchdog.stores.valkey import server_at  # noqa: PLC0415

    server = server_at(address)
    try:
        version = await server.examine()
        kept = "A deployment is kept there." if await is_kept(server, shards) else "Nothing of ours is kept there yet."
    except StoreError as error:
        return [Finding("store", None, State.FAULT, str(error))]
    finally:
        await server.close()
    told = f"{address}: It can be reached, is version {version}, and drops no keys. {kept}"
    return [Finding("store", None, State.OK, told), *_of_replicas(address, server.unguarded)]


def _of_replicas(address: Address, unguarded: int | None) -> list[Finding]:
    """Whether two servers may take writes at a time; nothing where there is one."""
    if unguarded == 0:
        return []
    if unguarded is None:
        told = f"{address}: Whether it has replicas, and takes writes without them, cannot be seen."
        return [Finding("replicas", None, State.UNKNOWN, told)]
    told = (
        f"{address}: It has replicas ({unguarded}), and takes writes without them: where one is made the primary while "
        "this one goes on, agents who are there may be set. Set min-replicas-to-write 1 and min-replicas-max-lag 5."
    )
    return [Finding("replicas", None, State.FAULT, told)]


def _of_file(settings: Settings, *, running: bool) -> Finding:
    path = settings.store_path
    try:
        trial.examine(path, in_use=running)
        if not running:
            check_copied(trial.meta(path, COPYING))
    except StoreLocked as error:
        return Finding("store", None, State.FAULT, f"{error} If it runs with these settings: --running.")
    except StoreError as error:
        return Finding("store", None, State.FAULT, str(error))
    if running:
        text = "Its folder can be written. The file is left to the running daemon."
    elif path.exists():
        text = "It can be read, it is ours, and its folder can be written."
    else:
        text = "It is not there yet, and can be made."
    return Finding("store", None, State.OK, f"{path}: {text}")


def _of_tls(settings: Settings) -> list[Finding]:
    if settings.tls_cert is None or settings.tls_key is None:
        return []
    try:
        found = Certificate(settings.tls_cert, settings.tls_key, lambda: machine.now().epoch)
    except CertificateRefused as error:
        return [Finding("certificate", None, State.FAULT, str(error))]
    left_s = found.expires_in_s
    if left_s is None:
        return [Finding("certificate", None, State.OK, f"{settings.tls_cert}: It can be served.")]
    if left_s == 0:
        return [Finding("certificate", None, State.FAULT, f"{settings.tls_cert}: It has expired. Renew it.")]
    days = f"It can be served, and expires in {left_s / DAY_S:.1f} days."
    if left_s < EXPIRES_S:
        return [Finding("certificate", None, State.FAULT, f"{settings.tls_cert}: {days} Renew it.")]
    return [Finding("certificate", None, State.OK, f"{settings.tls_cert}: {days}")]


async def _of_keys(settings: Settings) -> list[Finding]:
    if settings.auth != "jwt" or settings.jwks is None:
        return []
    caller = Caller(KEYS_TIMEOUT_S)
    time = asyncio.get_running_loop().time
    keys = KeySource(settings.jwks, caller, epoch=lambda: machine.now().epoch, time=time)
    try:
        found = await keys.find()
    except NoKeys as error:
        return [Finding("jwks", None, State.FAULT, f"{settings.jwks}: {error}")]
    finally:
        await keys.close()
    left_out = "".join(f" {each}" for each in found.left_out)
    told = f"{settings.jwks}: Keys that can be used: {len(found.keys)}.{left_out}"
    return [Finding("jwks", None, State.OK, told)]


def _print_tables(report: Report) -> None:
    console = screen()
    places = list(dict.fromkeys(finding.instance_id for finding in report.findings))
    for place in sorted(places, key=lambda each: each is not None):
        title = "The daemon" if place is None else f"Instance {place}"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        for finding in report.findings:
            if finding.instance_id == place:
                table.add_row(Text(*MARKS[finding.state]), finding.what, Text(finding.detail))
        console.print(table)
    for grant in report.grants:
        console.print(Text(f"The policy that these settings need, for {grant.principal}:", "bold"))
        for line in (*grant.missing, *grant.notes):
            console.print(Text(line))
        if grant.policy is not None:
            # Not by the console: it would break long ARNs.
            sys.stdout.write(json.dumps(grant.policy, indent=2) + "\n")


def _print_policies(report: Report) -> int:
    """The policies alone on stdout, everything else on stderr. Without a fault they are all that is needed."""
    faults = [finding.detail for finding in report.findings if finding.state is State.FAULT]
    for line in faults:
        sys.stderr.write(f"{line}\n")
    for grant in report.grants:
        for line in (*grant.missing, *grant.notes):
            sys.stderr.write(f"{grant.principal}: {line}\n")
        if grant.assumes_only:
            # Not a second document behind the one that is asked for.
            sys.stderr.write(f"{grant.principal}: allow sts:AssumeRole for {' and '.join(grant.roles)}.\n")
        elif grant.policy is not None:
            if len(report.grants) > 1:
                sys.stderr.write(f"{grant.principal}:\n")
                sys.stderr.flush()
            sys.stdout.write(json.dumps(grant.policy, indent=2) + "\n")
            sys.stdout.flush()
    return 1 if faults or any(grant.missing for grant in report.grants) else 0
