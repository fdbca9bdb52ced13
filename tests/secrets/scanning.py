"""The canaries, in whatever form they may sing, and where they are listened for."""

from __future__ import annotations

import base64
import html
import json
import pickle
import traceback
from pathlib import Path

import mrlclient

KEY = "sk-proj-Canary0123456789Kettle"
#: The key of a server of one's own, which looks like nothing.
PLAIN_KEY = "hunter2-canary"
TEXT = 'The "canary" sings\tof <copper> kettles & łódź, all night long'
PASSWORD = "canary-password-of-the-cache"
CANARIES = (KEY, PLAIN_KEY, TEXT, PASSWORD)

_OURS = str(Path(mrlclient.__file__).parent)


def forms(canary):
    """A secret as it is, escaped, shortened, in other letters, and encoded."""
    encoded = canary.encode()
    return {
        "whole": canary,
        "json": json.dumps(canary)[1:-1],
        "html": html.escape(canary),
        "beginning": canary[: max(len(canary) // 2, 12)] + "...",
        "end": "..." + canary[-max(len(canary) // 2, 12) :],
        "upper": canary.upper(),
        "base64": base64.b64encode(encoded).decode(),
        "repr": repr(canary)[1:-1],
        "blanks": " ".join(canary.split()),
    }


_SOUGHT = [form.strip(".").casefold() for canary in CANARIES for form in forms(canary).values()]


def heard(said):
    """Which canaries can be heard in something that was written."""
    if isinstance(said, bytes):
        said = said.decode("utf-8", "replace")
    said = said.casefold()
    return [canary for canary in _SOUGHT if canary in said]


def chain(error):
    """An error, and those that it carries along."""
    seen = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is not None and error not in seen:
            seen.append(error)
            waiting += [error.__cause__, error.__context__]
    return seen


def frames(error):
    """The frames of this package in an error's traceback and in those that it carries along, with their variables."""
    for link in chain(error):
        shown = traceback.TracebackException(type(link), link, link.__traceback__, capture_locals=True, compact=True)
        for frame in shown.stack:
            if frame.filename.startswith(_OURS):
                yield f"{frame.name}: {frame.locals}"


def check(*things):
    """Listens to what objects say of themselves, to their pickles, and to what errors carry along."""
    for thing in things:
        said = [repr(thing), str(thing), f"{thing}"]
        try:
            said.append(pickle.dumps(thing))
        except (mrlclient.MRLError, TypeError, AttributeError, pickle.PicklingError) as refusal:
            said.append(str(refusal))
        if isinstance(thing, BaseException):
            said += [str(link) for link in chain(thing)] + [repr(link.args) for link in chain(thing)]
            said += [repr(vars(link)) for link in chain(thing)]
            said += frames(thing)
        for words in said:
            assert not heard(words), words
