"""`python -m tests.audit`: known weaknesses of what the daemon needs, by pip-audit.

Exit code 0: everything was looked at, and nothing found; 1: something was found; 3: not everything could be looked at,
since no service that knows of weaknesses answers here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = Path(__file__).parent.parent / "requirements" / "run.txt"
LIMIT_S = 180
CLEAN, FOUND, NOT_LOOKED_AT = 0, 1, 3


def judged(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit code for a report of pip-audit, and lines for people."""
    packages = report["dependencies"]
    weak = [
        f"{each['name']} {each['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"
        for each in packages
        for one in each.get("vulns", ())
    ]
    # pip-audit itself calls a list of which it could look at nothing a success.
    skipped = [each["skip_reason"] for each in packages if "skip_reason" in each]
    if weak:
        return FOUND, weak
    if skipped or not packages:
        why = f": {skipped[0]}" if skipped else ""
        return NOT_LOOKED_AT, [f"known weaknesses not looked at for {len(skipped)} of {len(packages)} packages{why}"]
    return CLEAN, [f"no known weaknesses in {len(packages)} packages"]


def main() -> int:
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", RUN, "--require-hashes", "--disable-pip"),
        *("--progress-spinner", "off", "--timeout", "10", "--format", "json"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        code, lines = judged(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        code, lines = NOT_LOOKED_AT, ["known weaknesses not looked at: pip-audit reaches no service here"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
