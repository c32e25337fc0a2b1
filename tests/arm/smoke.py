#!/usr/bin/env python3
"""One election of programs that were built for different processors, on a real API server.

    python3 tests/arm/smoke.py NAME=PROGRAM NAME=PROGRAM…

Each PROGRAM starts, refuses a wrong configuration, leads with a COMMAND, ends by SIGTERM and hands over to the next. The
observer of tests/faults looks for two leaders meanwhile. Needs what tests/faults needs (its README.md); `.ci/run arm`
builds the programs and runs those for Arm under qemu-user.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "faults"))
sys.dont_write_bytecode = True

import observer  # noqa: E402
from arena import Arena  # noqa: E402
from candidates import SLOW, worker  # noqa: E402
from cluster import Cluster  # noqa: E402
from proxy import Network  # noqa: E402


def run(program, *arguments, env):
    done = subprocess.run([program, *arguments], env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def starts(name, program):
    code, text = run(program, "--version", env={"PATH": "/usr/bin:/bin"})
    check(code == 0 and text.startswith("leasehold "), f"{name} --version: exit {code}: {text}")
    print(f"{name}: {text.strip()}")
    code, text = run(program, env={"PATH": "/usr/bin:/bin", "LEASE_NAME": "leasehold", "LEASE_DURATION": "a while"})
    check(code == 2 and "LEASE_DURATION" in text, f"{name} with a wrong LEASE_DURATION: exit {code}: {text}")


def check(good, text):
    if not good:
        raise SystemExit(f"FAIL: {text}")


def elect(programs, folder):
    cluster = Cluster(os.path.join(folder, "cluster"))
    cluster.up()
    arena = None
    try:
        arena = Arena(types.SimpleNamespace(cluster=cluster, network=Network(), program=None, folder=folder), "arm")
        waiting = {}
        for name, program in programs.items():
            arena.program = program  # one for each candidate
            candidate = arena.add(name, timing=SLOW, command=worker(arena.beats))
            waiting[candidate] = name
            # The first alone, so that it leads; the others wait for it.
            arena.leader()
        arena.mark()
        while waiting:
            leader = arena.leader(other_than=[each for each in arena.candidates if each not in waiting])
            name = waiting.pop(leader)
            arena.until(f"the COMMAND of {name} works", lambda: any(term.name == name for term in observer.work(arena.beats)))
            write = arena.next_write(leader)
            check(write, f"{name} lost the Lease before it renewed: {leader.log}")
            code = leader.terminate()
            check(code == 0, f"{name} ends with exit {code} after SIGTERM: {leader.log}")
            print(f"{name}: elected, ran its COMMAND, renewed (version {write.version}), handed over after SIGTERM")
        arena.windows.append((arena.marked, arena.seen()[-1].at))
        outcome = arena.judge()
        check(not outcome.wrong, "\n".join(outcome.wrong))
        transitions = cluster.lease(arena.namespace, "leasehold")["spec"]["leaseTransitions"]
        check(transitions >= len(programs) - 1, f"{transitions} transitions")
        print(f"{len(programs)} terms, {outcome.asks} answers about who leads, never two leaders; longest time without one: {outcome.gaps[0]:.2f} s")
    finally:
        if arena:
            arena.close(keep=True)
        cluster.down()


def main():
    programs = dict(argument.split("=", 1) for argument in sys.argv[1:])
    check(len(programs) > 1, "give two programs or more: NAME=PROGRAM")
    for name, program in programs.items():
        starts(name, program)
    folder = tempfile.mkdtemp(prefix="leasehold-arm-")
    elect(programs, folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
