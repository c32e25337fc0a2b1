"""The COMMAND of the faults: it does nothing but to say, every few milliseconds, that it is alive.

IO: writes its CLOCK_MONOTONIC, eight bytes at a time, to a file of its own in the folder that it is given. On SIGTERM it dies
at once, unless told `--stubborn`.
"""

import os
import signal
import sys
import time

folder = sys.argv[1]
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
name = f"{os.environ['LEASEHOLD_IDENTITY']}+{os.environ['LEASEHOLD_FENCING_TOKEN']}+{os.getpid()}"
beats = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
while True:
    os.write(beats, time.monotonic_ns().to_bytes(8, "little"))
    time.sleep(0.003)
