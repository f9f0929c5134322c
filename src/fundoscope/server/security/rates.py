"""How often one may ask: a bucket of drops for each address and each account, refilled all the time. In the memory of one server."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from fundoscope.languages import gettext as _
from fundoscope.server.errors import BusyError

#: Buckets that are kept; the one that was not used for longest is forgotten first, and would be full by then.
MOST_BUCKETS = 20_000
#: The part of a minute's requests that may come at once.
BURST = 0.25


class Buckets:
    """One bucket a key; `per_minute` requests may be made, a quarter of them at once."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute / 60
        self._size = max(1.0, per_minute * BURST)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Take a drop; raises `BusyError` (429) with the seconds to wait where there is none."""
        moment = time.monotonic()
        with self._lock:
            drops, since = self._buckets.pop(key, (self._size, moment))
            drops = min(self._size, drops + (moment - since) * self._rate)
            enough = drops >= 1
            self._buckets[key] = (drops - 1 if enough else drops, moment)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        if not enough:
            seconds = int((1 - drops) / self._rate) + 1
            message = _("Too many requests in a short time. Wait {seconds} seconds and try again.")
            raise BusyError(message.format(seconds=seconds), seconds, 429)
