"""The faults: what is done to the leader, to the way to the API server, to the API server, to the Lease.

Each function is one run: it begins with a leader, marks the instant of the fault, and returns when there is a leader again.
How long that took is shown and not judged: this machine may be loaded. The election's times are judged on virtual time.
"""

import random
import signal
import time
from dataclasses import dataclass, field

from arena import Failed
from candidates import SLOW, replace
from cluster import FAKETIME, LEASES, Missing
from proxy import TO_CLIENT, TO_SERVER, Replier

LEASE, DEADLINE, RENEW = 3.0, 2.0, 1.0


@dataclass
class Fault:
    name: str
    run: object
    runs: int = 3
    exclusive: bool = False  # it is done to the API server itself
    by_hand: float = 0.0     # for so long a newcomer may lead beside the leader (DESIGN, section 2)
    every: float = 0.005
    several: dict = field(default_factory=dict)
    clocks_agree: bool = True  # the candidates' wall clocks
    settle: float = 1.5
    long: bool = False       # not part of --quick


FAULTS = []


def fault(name, **more):
    def register(run):
        FAULTS.append(Fault(name, run, **more))
        return run
    return register


# ------------------------------------------------------------------------------------ the process

@fault("leader killed", runs=5)
def leader_killed(arena, _suite):
    leader = arena.leader()
    arena.mark()
    leader.kill()
    arena.leader(other_than=[leader])
    leader.start()


@fault("leader killed, COMMAND", several={"work": []}, runs=5)
def leader_killed_command(arena, suite):
    leader_killed(arena, suite)


@fault("leader asked to end, COMMAND", several={"work": []})
def leader_terminated(arena, _suite):
    leader = arena.leader()
    arena.mark()
    if (code := leader.terminate()) != 0:
        raise Failed(f"{leader.name} ended with {code} after SIGTERM")
    arena.leader(other_than=[leader])
    leader.start()


@fault("leader stopped beyond the lease, continued")
def leader_stopped(arena, _suite):
    leader = arena.leader()
    arena.mark()
    leader.pause()
    arena.leader(other_than=[leader])
    leader.go_on()


@fault("every candidate stopped beyond the lease, continued")
def all_stopped(arena, _suite):
    arena.leader()
    arena.mark()
    for candidate in arena.candidates:
        candidate.pause()
    time.sleep(LEASE + 1)
    for candidate in arena.candidates:
        candidate.go_on()
    arena.leader()


def clock_env(offset):
    return {"LD_PRELOAD": FAKETIME, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


@fault("wall clocks an hour apart, leader killed", several={"count": 0}, clocks_agree=False)
def clocks_apart(arena, _suite):
    if not FAKETIME:
        raise Missing("libfaketime (Debian: apt-get install faketime)")
    if not arena.candidates:
        for offset in ("+1h", "-1h", "+0"):
            arena.add(env=clock_env(offset))
    for candidate in arena.candidates:
        if not candidate.alive():
            candidate.start()
    leader = arena.leader()
    arena.mark()
    leader.kill()
    arena.leader(other_than=[leader])
    written = {one.holder: one.record[3][11:13] for one in arena.seen() if one.record[3]}
    if len(written) > 1 and len(set(written.values())) == 1:
        raise Failed(f"the clocks were not apart: {written} (a statically linked program?)")


# ---------------------------------------------------------------------------------------- the way

def cut_off(arena, *directions):
    leader = arena.leader()
    arena.mark()
    leader.proxy.hold(*directions)
    arena.leader(other_than=[leader])
    # What was held back arrives now, writes included.
    leader.proxy.heal()


@fault("black hole towards the server")
def hole_to_server(arena, _suite):
    cut_off(arena, TO_SERVER)


@fault("black hole from the server")
def hole_from_server(arena, _suite):
    cut_off(arena, TO_CLIENT)


@fault("black hole both ways")
def hole_both(arena, _suite):
    cut_off(arena, TO_SERVER, TO_CLIENT)


@fault("black hole both ways, stubborn COMMAND", several={"work": ["--stubborn"]})
def hole_both_command(arena, _suite):
    cut_off(arena, TO_SERVER, TO_CLIENT)


@fault("black hole from the server, COMMAND", several={"work": []})
def hole_from_server_command(arena, _suite):
    cut_off(arena, TO_CLIENT)


def late_reply_then_silence(arena, find_leader, late):
    """A renewal is applied at once, its reply comes late, and nothing after it. Whose it was, and when the watch saw it."""
    while True:
        leader = find_leader()
        if arena.next_write(leader):
            # Its reply has left the server with the event, or all but.
            time.sleep(0.2)
            leader.proxy.slow(TO_CLIENT, late)
            if applied := arena.next_write(leader):
                break
        # On a loaded machine the delay may hit the call before that one, and the term is over: once more.
        leader.proxy.heal()
    leader.proxy.hold(TO_SERVER)
    arena.mark()
    time.sleep(0.2)
    leader.proxy.slow(TO_CLIENT, 1e9)
    return leader, applied


@fault("a reply 1.6 s late, then silence")
def late_reply(arena, _suite):
    leader, applied = late_reply_then_silence(arena, arena.leader, 8 * LEASE / 15)
    arena.must_end(leader, applied, DEADLINE)
    arena.leader(other_than=[leader])
    leader.proxy.cut()
    leader.proxy.heal()


@fault("connections reset")
def connections_reset(arena, _suite):
    arena.leader()
    arena.mark()
    for _ in range(10):
        for candidate in arena.candidates:
            candidate.proxy.cut()
        time.sleep(0.1)
    arena.leader()


@fault("connections refused to the leader")
def connections_refused(arena, _suite):
    leader = arena.leader()
    arena.mark()
    leader.proxy.refuse()
    arena.leader(other_than=[leader])
    leader.proxy.listen()


# --------------------------------------------------------------------------------- its answers

def answering(arena, suite, who, status, retry_after):
    errors = Replier(suite.cluster.server_tls(), status, retry_after)
    for candidate in who:
        candidate.proxy.answer_with(errors)
    return errors


def answered_for_longer_than_the_lease(arena, suite, status, retry_after):
    arena.leader()
    arena.mark()
    errors = answering(arena, suite, arena.candidates, status, retry_after)
    time.sleep(LEASE + 1)
    arena.until("somebody asks", lambda: errors.answered)
    for candidate in arena.candidates:
        candidate.proxy.answer_with(None)
    arena.leader()


@fault("429, Retry-After 1, to all")
def answer_429(arena, suite):
    answered_for_longer_than_the_lease(arena, suite, 429, 1)


@fault("500 to all")
def answer_500(arena, suite):
    answered_for_longer_than_the_lease(arena, suite, 500, None)


@fault("503, Retry-After 1, to all")
def answer_503(arena, suite):
    answered_for_longer_than_the_lease(arena, suite, 503, 1)


@fault("503, Retry-After 60, to the leader alone")
def answer_leader_503(arena, suite):
    leader = arena.leader()
    arena.mark()
    answering(arena, suite, [leader], 503, 60)
    arena.leader(other_than=[leader])
    leader.proxy.answer_with(None)


# ----------------------------------------------------------------------------------- credentials

def all_with_a_short_token(arena, suite, seconds):
    """Started anew, as they would not read another before the one they have is refused, or a minute is over."""
    short = suite.cluster.short_token(arena.namespace, arena.account_uid, seconds)
    for candidate in arena.candidates:
        replace(candidate.token, short)
        candidate.kill()
        candidate.start()
    arena.leader()
    arena.mark()


def all_with_a_good_token(arena, suite):
    for candidate in arena.candidates:
        replace(candidate.token, suite.cluster.token(arena.namespace))


SHORT = 15  # seconds: enough for a leader on a loaded machine
# The API server remembers for up to ten seconds that it has found a token good.
REMEMBERED = 10


@fault("token expired, later replaced", runs=1)
def token_expired(arena, suite):
    all_with_a_short_token(arena, suite, SHORT)
    arena.until("nobody leads any more with a token that has expired", lambda: not arena.leading())
    all_with_a_good_token(arena, suite)
    arena.mark()
    arena.leader()


@fault("token rotated, the old one expires", runs=1)
def token_rotated(arena, suite):
    all_with_a_short_token(arena, suite, SHORT)
    all_with_a_good_token(arena, suite)
    time.sleep(SHORT + REMEMBERED)
    arena.until("the leader renews with the new token", lambda: arena.next_write(arena.leader()))


# ------------------------------------------------------------------------------ edits of the Lease

BY_HAND = DEADLINE  # no renewal succeeds after the edit, and without one the leader stops by its own clock


@fault("Lease deleted, a newcomer comes", by_hand=BY_HAND)
def lease_deleted(arena, suite):
    leader = arena.leader()
    arena.mark()
    arena.hands.append(time.monotonic())
    suite.cluster.must("DELETE", LEASES.format(arena.namespace) + "/leasehold")
    arena.add(f"new-{len(arena.candidates)}")
    arena.until("the Lease is there again", lambda: arena.holder() and arena.seen()[-1].kind != "DELETED")
    arena.leader()
    if not leader.alive():
        raise Failed(f"{leader.name} has ended")


@fault("holder cleared by hand", by_hand=BY_HAND)
def holder_cleared(arena, _suite):
    arena.leader()
    arena.mark()
    arena.edit(lambda spec: spec.update(holderIdentity=""))
    arena.until("the Lease has a holder again", arena.holder)
    arena.leader()


@fault("holder changed by hand", by_hand=BY_HAND)
def holder_changed(arena, _suite):
    leader = arena.leader()
    arena.mark()
    arena.edit(lambda spec: spec.update(holderIdentity="operator"))
    arena.until(f"{leader.name} no longer leads", lambda: leader not in arena.leading())
    arena.until("the operator's hold expires", lambda: arena.holder() not in ("", "operator"))
    arena.leader()


def duration_changed(arena, seconds):
    leader = arena.leader()
    arena.mark()
    arena.edit(lambda spec: spec.update(leaseDurationSeconds=seconds))
    time.sleep(2 * RENEW)
    leader.kill()
    arena.leader(other_than=[leader])
    leader.start()


@fault("duration changed to 1 by hand", by_hand=BY_HAND)
def duration_shortened(arena, _suite):
    duration_changed(arena, 1)


@fault("duration changed to 6 by hand", by_hand=BY_HAND)
def duration_lengthened(arena, _suite):
    duration_changed(arena, 6)


# ---------------------------------------------------------------------- what others are seen to fail

@fault("stopped, rival leads, SIGTERM, SIGCONT (client-go erases the rival)", several={"count": 2})
def resumed_into_release(arena, _suite):
    leader = arena.leader()
    arena.mark()
    leader.pause()
    rival = arena.leader(other_than=[leader])
    leader.signal(signal.SIGTERM)
    arena.until("the watch shows the rival", lambda: arena.holder() == rival.name)
    count = len(arena.seen())
    leader.go_on()
    if (code := leader.process.wait(60)) != 0:
        raise Failed(f"{leader.name} ended with {code} after SIGTERM")
    time.sleep(1)
    erased = [one for one in arena.seen()[count:] if one.holder != rival.name]
    if erased:
        raise Failed(f"the rival's Lease was taken from it: {erased[0]}")
    leader.start()


@fault("15/10/2: a reply 8 s late, then silence (client-go leads for 22 s more)", several={"count": 2, "timing": SLOW}, runs=1, settle=0.5)
def late_reply_slow(arena, _suite):
    leader, applied = late_reply_then_silence(arena, arena.leader, 8.0)
    arena.must_end(leader, applied, 10.0)
    arena.until("it stops leading", lambda: leader not in arena.leading())
    stopped = time.monotonic()
    arena.leader(other_than=[leader])
    arena.outcome.notes.append(f"stopped leading at most {stopped - applied.at:.1f} s after its last write was applied")


@fault("five candidates, leader killed (kube-leader-election gives it to two)", several={"count": 5}, runs=6)
def one_winner(arena, suite):
    leader_killed(arena, suite)


# ------------------------------------------------------------------------------------------ churn

@fault("20 candidates, churn", several={"count": 20}, runs=1, every=0.04)
def churn(arena, suite):
    seed = suite.seed
    dice = random.Random(seed)
    arena.leader()
    arena.mark()
    end, counts = time.monotonic() + (20 if suite.quick else 120), {}
    while time.monotonic() < end:
        what = dice.choice(("kill", "terminate", "pause", "hold", "kill the leader", "pause the leader", "start", "start"))
        counts[what] = counts.get(what, 0) + 1
        one = dice.choice(arena.candidates)
        if what.endswith("the leader"):
            one = next((each for each in arena.candidates if each.name == arena.holder()), one)
        if what.startswith("kill"):
            one.kill()
        elif what == "terminate" and one.alive() and not one.stopped:
            one.terminate()
        elif what.startswith("pause"):
            one.pause()
        elif what == "hold":
            one.proxy.hold(*dice.choice(((TO_SERVER,), (TO_CLIENT,), (TO_SERVER, TO_CLIENT))))
        else:
            for each in dice.sample(arena.candidates, 8):
                each.proxy.heal()
                if each.stopped:
                    each.go_on()
                elif not each.alive():
                    each.start()
        time.sleep(dice.uniform(0.05, 0.8))
    for each in arena.candidates:
        each.proxy.heal()
        each.go_on()
        if not each.alive():
            each.start()
    arena.leader()
    arena.outcome.notes.append(f"seed {seed}: " + ", ".join(f"{n} × {what}" for what, n in sorted(counts.items())))


# ---------------------------------------------------------------------------- the API server itself

@fault("API server frozen beyond the lease", exclusive=True)
def apiserver_frozen(arena, suite):
    freeze(arena, suite.cluster, "kube-apiserver")


@fault("etcd frozen beyond the lease", exclusive=True)
def etcd_frozen(arena, suite):
    freeze(arena, suite.cluster, "etcd")


def freeze(arena, cluster, name):
    arena.leader()
    arena.mark()
    cluster.processes[name].send_signal(signal.SIGSTOP)
    time.sleep(LEASE + 1)
    cluster.processes[name].send_signal(signal.SIGCONT)
    # What the calls that hung come to is not asked: they may still be on their way.
    arena.leader()


def again(arena, cluster, action):
    """What is shown is the time from when the API server is there again: how long that takes is not the candidates' doing."""
    action()
    cluster.wait_ready()
    ready = time.monotonic()
    arena.outcome.notes.append(f"API server away for {ready - arena.marked:.1f} s")
    arena.leader()
    arena.marked = ready


@fault("API server restarted", exclusive=True)
def apiserver_restarted(arena, suite):
    arena.leader()
    arena.mark()
    suite.cluster.stop("kube-apiserver")
    again(arena, suite.cluster, suite.cluster.start_apiserver)


@fault("etcd killed and started", exclusive=True)
def etcd_restarted(arena, suite):
    arena.leader()
    arena.mark()
    suite.cluster.stop("etcd")
    time.sleep(LEASE + 1)
    again(arena, suite.cluster, suite.cluster.start_etcd)


@fault("CA rotated", exclusive=True, runs=1)
def ca_rotated(arena, suite):
    leader = arena.leader()
    arena.mark()
    suite.cluster.stop("kube-apiserver")
    suite.cluster.new_ca()
    suite.cluster.local.connection = None
    suite.cluster.start_apiserver()
    arena.until("the old CA is no longer enough", lambda: not arena.leading())
    for candidate in arena.candidates:
        replace(candidate.ca, suite.cluster.ca_pem)
    replaced = time.monotonic()
    arena.leader()
    arena.marked = replaced
    if not leader.alive():
        raise Failed(f"{leader.name} has ended")
