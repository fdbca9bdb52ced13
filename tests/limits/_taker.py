"""A process that takes from a shared limit: `python _taker.py URL SEED SECONDS REQUESTS TOKENS AHEAD`.

It asks again and again until nothing more can go within its seconds, and prints for each request that went when that
was, on the clock that all processes of a machine share, and its tokens. Its own clocks are AHEAD seconds off.
"""

from __future__ import annotations

import random
import sys
import time

_now, _monotonic, _time = time.perf_counter, time.monotonic, time.time


def main() -> None:
    url, seed = sys.argv[1], int(sys.argv[2])
    seconds, requests, tokens, ahead = map(float, sys.argv[3:])
    if ahead:
        time.monotonic = lambda: _monotonic() + ahead
        time.time = lambda: _time() + ahead

    from mrlclient import Limits
    from mrlclient.gates import gate_for

    choose = random.Random(seed)
    gate = gate_for(("https://api.example.org", "fingerprint", "model"), Limits(requests, tokens, shared=url))
    # What a process keeps to by itself would hide what it is told.
    gate._meter.reserve = lambda now, tokens: 0.0
    print("ready", flush=True)
    sys.stdin.readline()
    end = _now() + seconds
    while True:
        amount = choose.randrange(1, 20)
        wait = gate.reserve(amount)
        if _now() + wait >= end:
            break
        time.sleep(wait)
        print(_now(), amount, flush=True)
        if choose.random() < 0.2:
            # Some of it was not used: its share is for the others.
            used = choose.randrange(amount + 1)
            gate.settle(amount, used)
            print(_now(), used - amount, flush=True)


if __name__ == "__main__":
    main()
