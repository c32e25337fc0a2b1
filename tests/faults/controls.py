"""That the observer would see it: two leaders made on purpose, and other people's programs under the faults they fail.

The peers are programs in the folder LEASEHOLD_PEERS (plain or .xz): `clientgo`, on client-go, and `kle-rs`, on
kube-leader-election. They take the same variables and the usual service account's folder, so they need root (a mount namespace).
"""

import lzma
import os
import shutil
import signal
import time

import observer
from arena import Outcome
from candidates import SLOW, Candidate, worker
from faults import late_reply_then_silence

WHOLE = (("LEASE_DURATION", "3"), ("RENEWAL_DEADLINE", "2"), ("RETRY_PERIOD", "1"))


def observer_sees_two(suite):
    """Two processes, each rightly leading through a Lease of its own, taken for rivals over one."""
    arena = suite.arena(leases=("one", "two"))
    outcome = Outcome("")
    try:
        for lease in arena.leases:
            arena.add(lease, lease=lease, command=worker(arena.beats))
        for candidate in arena.candidates:
            arena.leader(other_than=[each for each in arena.candidates if each is not candidate])
        arena.until("both COMMANDs work", lambda: len(observer.work(arena.beats)) == 2)
        time.sleep(0.5)
        answers = arena.observer.answers()
        led, work = observer.overlaps(observer.terms(answers)), observer.overlaps(observer.work(arena.beats))
        outcome.runs, outcome.asks = 1, sum(one["asks"] for one in answers)
        if not led or not work:
            outcome.wrong.append(f"the observer is blind: {len(led)} overlaps of leaders, {len(work)} of their work; one of each is there")
        else:
            outcome.notes.append(f"seen: two leaders for {led[0][2]:.3f} s, two COMMANDs for {work[0][2]:.3f} s")
    finally:
        suite.report(outcome, "control: two Leases counted as one (the observer must see it)", arena)


# ------------------------------------------------------------------------------------------- peers

def peer(suite, name):
    """The program's path, unpacked, or None."""
    folder = os.environ.get("LEASEHOLD_PEERS")
    place = folder and os.path.join(folder, name)
    if not place or os.geteuid() != 0:
        return None
    mine = os.path.join(suite.folder, name)
    if os.path.exists(mine):
        return mine
    if os.path.exists(place):
        shutil.copy(place, mine)
    elif os.path.exists(place + ".xz"):
        with lzma.open(place + ".xz") as packed, open(mine, "wb") as program:
            shutil.copyfileobj(packed, program)
    else:
        return None
    os.chmod(mine, 0o755)
    return mine


def peers(suite):
    table = [
        ("control: client-go, stopped, rival leads, SIGTERM, SIGCONT", "clientgo", erases_its_rival, False),
        ("control: client-go, 15/10/2, a reply 8 s late, then silence", "clientgo", leads_too_long, True),
        ("control: kube-leader-election, five candidates, leader killed", "kle-rs", two_winners, True),
    ]
    for name, program, control, long in table:
        if not suite.wanted(name) or (suite.quick and long):
            continue
        path = peer(suite, program)
        if not path:
            print(f"{name}: skipped, as LEASEHOLD_PEERS names no folder with {program}, or this is not root")
            continue
        arena = suite.arena(leases=("peers",))
        try:
            control(arena, path)
        except Exception as error:  # a peer's own troubles are no verdict on leasehold
            arena.outcome.notes.append(f"not shown: {error}")
        suite.report(arena.outcome, name, arena)


def start(arena, path, count, timing):
    for number in range(1, count + 1):
        arena.candidates.append(Candidate(arena, f"peer-{number}", lease="peers", timing=timing, program=path).start())


def start_those_that_ended(arena, other_than):
    """Some end with their term."""
    for each in arena.candidates:
        if not each.alive() and each not in other_than:
            each.start()


def holder(arena, other_than=()):
    def found():
        start_those_that_ended(arena, other_than)
        return next((each for each in arena.candidates if each.name == arena.holder() and each not in other_than), None)
    return arena.until("a peer holds the Lease", found)


def erases_its_rival(arena, path):
    start(arena, path, 2, WHOLE)
    erased, runs = 0, 3
    for _ in range(runs):
        leader = holder(arena)
        leader.pause()
        rival = holder(arena, [leader])
        leader.signal(signal.SIGTERM)
        count = len(arena.seen())
        leader.go_on()
        leader.process.wait(60)
        time.sleep(0.5)
        erased += any(one.holder != rival.name for one in arena.seen()[count:])
        arena.outcome.runs += 1
    arena.outcome.notes.append(f"seen: the resumed leader erased its rival's holderIdentity {erased} times of {runs}")


def leads_too_long(arena, path):
    start(arena, path, 2, SLOW)
    leader, applied = late_reply_then_silence(arena, lambda: holder(arena), 8.0)
    ended = arena.until("it stops leading", lambda: leader.said("stopped leading") and time.monotonic())
    rival = next((one for one in arena.seen() if one.at > applied.at and one.holder not in ("", leader.name)), None)
    arena.outcome.runs = 1
    text = f"seen: it stopped leading {ended - applied.at:.1f} s after its last write was applied"
    if rival:
        text += f"; its rival led from {rival.at - applied.at:.1f} s on: both for {ended - rival.at:.1f} s"
    arena.outcome.notes.append(text)


def two_winners(arena, path):
    start(arena, path, 5, WHOLE)
    runs = 8
    for _ in range(runs):
        leader = holder(arena)
        leader.kill()
        holder(arena, [leader])
        time.sleep(1)
        arena.outcome.runs += 1
    twice = observer.taken_early(arena.seen())
    arena.outcome.notes.append(f"seen: the Lease went from a live holder to another {len(twice)} times in {runs} failovers")
