#!/usr/bin/env python3
"""Every test on the real cluster, one after the other; each can also be run by itself.

    LEASEHOLD_KIT=… KUBECONFIG=$($LEASEHOLD_KIT/cluster/up) python3 tests/cluster/all.py
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The short-lived tokens of `rotation` age while the others run.
STEPS = [["rotation.py", "begin"], ["demonstrations.py"], ["commands.py"], ["rolling.py"], ["hostile.py"], ["rotation.py", "end"]]


def main():
    """Goes on after a failure, so that one run tells everything."""
    failed = []
    for script, *arguments in STEPS:
        title = " ".join([script, *arguments])
        print(f"\n--- {title}", flush=True)
        started = time.monotonic()
        code = subprocess.run([sys.executable, HERE / script, *arguments]).returncode
        print(f"--- {title}: {'passed' if code == 0 else 'FAILED'}, {time.monotonic() - started:.0f} s", flush=True)
        if code:
            failed.append(title)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
