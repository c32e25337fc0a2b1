"""Where one fault happens: a namespace, its candidates with their proxies, the observer, and the verdict at the end.

IO. No verdict depends on how fast this machine is: limits only end a wait that would never end.
"""

import contextlib
import http.client
import json
import os
import shutil
import time
from dataclasses import dataclass, field

import observer
from candidates import FAST, Candidate, worker

LIMIT = 90  # for anything to happen, on a machine however loaded


class Failed(Exception):
    """The program did what it must not."""


@dataclass
class Outcome:
    name: str
    runs: int = 0
    overlaps: int = 0
    by_hand: list = field(default_factory=list)
    gaps: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    asks: int = 0
    spacing: float = 0.0


class Arena:
    def __init__(self, suite, name, leases=("leasehold",), every=0.005):
        self.cluster, self.network, self.program = suite.cluster, suite.network, suite.program
        self.namespace = name.replace("_", "-")
        self.folder = os.path.join(suite.folder, name)
        self.beats = os.path.join(self.folder, "beats")
        os.makedirs(self.beats)
        self.leases = leases
        self.account_uid = self.cluster.make_namespace(self.namespace, list(leases))
        self.token = self.cluster.token(self.namespace)
        self.observer = observer.Observer(self.cluster, self.namespace, leases, every)
        self.candidates = []
        self.outcome = Outcome(name)
        self.marked = None
        self.windows = []
        self.ends = []
        self.hands = []

    # ---------------------------------------------------------------------------- who takes part

    def add(self, name=None, **more):
        """One more candidate, started and observed."""
        candidate = Candidate(self, name or f"pod-{len(self.candidates) + 1}", **more)
        self.candidates.append(candidate)
        candidate.start()
        self.observer.add(candidate.name, candidate.port)
        return candidate

    def several(self, count=3, work=None, timing=FAST):
        """`work`: None for the built-in leader loop, else the arguments of the COMMAND."""
        command = None if work is None else worker(self.beats, *work)
        for _ in range(count):
            self.add(timing=timing, command=command)

    def leading(self):
        """Those that answer that they lead."""
        found = []
        for candidate in self.candidates:
            if candidate.alive() and not candidate.stopped:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=2)
                    try:
                        connection.request("GET", "/leading")
                        if connection.getresponse().status == 200:
                            found.append(candidate)
                    finally:
                        connection.close()
        return found

    def leader(self, other_than=()):
        """Waits for one."""
        return self.until("there is a leader", lambda: next(
            (candidate for candidate in self.leading() if candidate not in other_than), None))

    def until(self, what, happened):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if found := happened():
                return found
            time.sleep(0.01)
        raise Failed(f"within {LIMIT} s it did not happen that {what}")

    # ---------------------------------------------------------------------------------- the Lease

    def seen(self):
        return self.observer.seen[self.leases[0]]

    def holder(self):
        seen = self.seen()
        return seen[-1].holder if seen else ""

    def next_write(self, candidate):
        """Waits for the next write of the Lease; what the watch said of it, or None if another holder made it."""
        count = len(self.seen())
        self.until(f"{candidate.name} renews, or another acquires", lambda: len(self.seen()) > count)
        written = self.seen()[count]
        return written if written.holder == candidate.name else None

    def edit(self, change):
        """By hand: within a bound, a newcomer may then lead beside the leader."""
        self.hands.append(time.monotonic())
        self.cluster.edit_lease(self.namespace, self.leases[0], change)

    # ---------------------------------------------------------------------------------- verdicts

    def must_end(self, candidate, applied, deadline):
        """Its last write was applied before word of it came, and was sent before that: the term that was then under way has
        certainly outlasted its deadline if a question asked so long after that word is answered by "I lead".
        """
        self.ends.append((candidate.name, applied.at, applied.at + deadline))

    def mark(self):
        """The fault begins now."""
        self.marked = time.monotonic()

    def end_run(self, settle):
        # Whoever wrongly leads beside the new leader, or takes over from it, has time to show it.
        time.sleep(settle)
        self.windows.append((self.marked, time.monotonic()))
        self.outcome.runs += 1

    def judge(self, by_hand=0.0, clocks_agree=True):
        """`by_hand`: for so long two may lead after an edit by hand. `clocks_agree`: the candidates' wall clocks."""
        outcome, answers = self.outcome, self.observer.answers()
        self.keep_what_was_seen(answers)
        led = observer.terms(answers)
        outcome.asks = sum(one["asks"] for one in answers)
        self.judge_overlaps(led, "", by_hand)
        self.judge_overlaps(observer.work(self.beats), "work of ", by_hand)
        outcome.wrong += [f"{one.name} (token {one.token}) led {one.last[0] - end:.3f} s after its deadline"
                          for name, applied, end in self.ends for one in led
                          if one.name == name and one.first[1] <= applied and one.last[0] >= end]
        outcome.wrong += [f"{name} went on with the term {token} that it had given up"
                          for name, token in observer.resumed(answers)]
        outcome.wrong += [f"{after.name}'s token {after.token} follows {before.name}'s {before.token}"
                          for before, after in observer.falling_tokens(led)]
        if not self.hands:
            for lease in self.leases:
                outcome.wrong += [f"{after.holder} took the Lease from {before.holder} after {after.at - before.at:.3f} s"
                                  for before, after in observer.taken_early(self.observer.seen[lease], clocks_agree)]
        for begin, end in self.windows:
            outcome.gaps.append(max(observer.gaps(led, begin, end), default=0.0))
        return outcome

    def keep_what_was_seen(self, answers):
        seen = {lease: [vars(one) for one in versions] for lease, versions in self.observer.seen.items()}
        with open(os.path.join(self.folder, "observed.json"), "w", encoding="ascii") as file:
            json.dump({"answers": answers, "leases": seen, "windows": self.windows, "by hand": self.hands}, file, indent=1)

    def judge_overlaps(self, led, what, by_hand):
        for one, other, length in observer.overlaps(led):
            begin = max(one.first[0], other.first[0])
            text = f"{what}{one.name} (token {one.token}) and {other.name} (token {other.token}) overlap for {length:.3f} s"
            if by_hand and any(hand <= begin for hand in self.hands):
                self.outcome.by_hand.append(length)
                if length > by_hand:
                    self.outcome.wrong.append(f"{text}, more than {by_hand} s after an edit by hand")
            else:
                self.outcome.overlaps += 1
                self.outcome.wrong.append(text)

    def close(self, keep):
        self.observer.close()
        for candidate in self.candidates:
            with contextlib.suppress(Exception):
                candidate.kill()
            candidate.proxy.refuse()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
