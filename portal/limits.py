"""How often one person, or one address, may do what is costly or shows people (issue 3, Web).

Counted in Redis, so that all web processes share one count. While Redis does not answer, every process counts
by itself with the same limits: nobody is locked out, and nothing is open but as many times as there are
processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from django.conf import settings
from django.core.cache import BaseCache, caches
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from redis.exceptions import RedisError

from portal.audit import client_address, record_alone
from portal.models import User

log = logging.getLogger(__name__)
SHARED, OWN = "limits", "limits_of_process"
PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
REDIS_PAUSE = 10.0  # seconds until a Redis that failed is asked again
ADDRESS_FACTOR = 4  # a branch's people share one address
T = TypeVar("T")
now: Callable[[], float] = time.time
_redis_back_at = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` times in any `seconds`."""

    count: int
    seconds: int

    def times(self, factor: int) -> Rate:
        """Return the same for several people together."""
        return Rate(self.count * factor, self.seconds)


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether something may be done: `wait` is 0, or the seconds until it may; the first refusal says so."""

    wait: int
    is_first: bool = False


class TooOftenError(Exception):
    """Somebody did something too often; answered as 429 by portal.middleware.Refusals."""

    def __init__(self, wait: int) -> None:
        super().__init__(f"wait {wait} s")
        self.wait = wait


def parse_rate(text: str) -> Rate:
    """Read "30/min": a count and the first letter of second, minute, hour or day, as DRF writes rates."""
    count, slash, period = text.partition("/")
    if not slash or not count.isdecimal() or int(count) < 1 or period[:1] not in PERIODS:
        raise ValueError(f"rate: expected something like 30/min, got {text!r}")
    return Rate(int(count), PERIODS[period[0]])


def check_rates() -> None:
    """Refuse to start with a rate that cannot be read."""
    for name, text in settings.RATES.items():
        try:
            parse_rate(text)
        except ValueError as exc:
            raise ImproperlyConfigured(f"RATE_{name.upper()}: {exc}") from exc


def take(name: str, who: str, rate: Rate) -> Taken:
    """Count one more of `name` by `who` unless that would be too often."""
    return _with_a_cache(lambda cache: _take(cache, _key(name, who), rate))


def _key(name: str, who: str) -> str:
    """Return the key of a count: any text is one, and none is readable (R-45)."""
    return f"{name}.{sha256(who.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def waiting(name: str, who: str, rate: Rate) -> int:
    """Return in how many seconds one more of `name` by `who` would be allowed; count nothing."""
    return _with_a_cache(lambda cache: _waiting(cache, _key(name, who), rate))


def trust(what: str, seconds: int) -> None:
    """Remember for a time that something was in order, by its digest alone."""
    _with_a_cache(lambda cache: cache.set(_key("trusted", what), 1, timeout=seconds))


def is_trusted(what: str) -> bool:
    """Say whether `trust` was called for it and the time is not over."""
    return _with_a_cache(lambda cache: bool(cache.get(_key("trusted", what))))


def spend(name: str, request: HttpRequest) -> None:
    """Count one more of a limit of settings.RATES for user and address, or raise TooOftenError, audited."""
    rate = parse_rate(settings.RATES[name])
    asking = getattr(request, "user", None)
    user = asking if isinstance(asking, User) else None
    counted = {f"address {client_address.get()}": rate.times(ADDRESS_FACTOR if user else 1)}
    if user is not None:
        counted = {f"user {user.pk}": rate, **counted}
    for who, allowed in counted.items():
        taken = take(name, who, allowed)
        if taken.is_first:
            record_alone("limit.exceeded", actor=user, limit=name, counted_by=who.partition(" ")[0])
        if taken.wait:
            raise TooOftenError(taken.wait)


def _with_a_cache(work: Callable[[BaseCache], T]) -> T:
    """Run the work on Redis, or on this process's own memory while Redis does not answer."""
    global _redis_back_at  # noqa: PLW0603 - a process remembers that Redis is away
    if now() >= _redis_back_at:
        try:
            return work(caches[SHARED])
        except (RedisError, OSError) as exc:
            _redis_back_at = now() + REDIS_PAUSE
            log.warning("Redis does not answer (%s): limits are counted by each process", type(exc).__name__)
    return work(caches[OWN])


def _take(cache: BaseCache, key: str, rate: Rate) -> Taken:
    """Count in windows of the rate's length; what the window before counted fades as this one passes."""
    window, passed = divmod(now(), rate.seconds)
    here, before = f"{key}.{window:.0f}", f"{key}.{window - 1:.0f}"
    cache.add(here, 0, timeout=2 * rate.seconds)
    count, earlier = cache.incr(here), cache.get(before, 0)
    if count + earlier * (1 - passed / rate.seconds) <= rate.count:
        return Taken(0)
    cache.decr(here)  # what was refused does not count
    wait = _wait(count - 1, earlier, rate, passed)
    return Taken(wait, is_first=cache.add(f"{key}.told", 1, timeout=rate.seconds))


def _waiting(cache: BaseCache, key: str, rate: Rate) -> int:
    window, passed = divmod(now(), rate.seconds)
    here, before = f"{key}.{window:.0f}", f"{key}.{window - 1:.0f}"
    found = cache.get_many([here, before])
    count, earlier = found.get(here, 0), found.get(before, 0)
    if count + 1 + earlier * (1 - passed / rate.seconds) <= rate.count:
        return 0
    return _wait(count, earlier, rate, passed)


def _wait(count: int, earlier: int, rate: Rate, passed: float) -> int:
    """Return after how many whole seconds one more would be allowed."""
    room = rate.count - 1
    if count > room:  # not before the next window, in which this one's count fades
        return max(1, math.ceil(rate.seconds - passed + rate.seconds * (1 - room / count)))
    return max(1, math.ceil(rate.seconds * (1 - (room - count) / earlier) - passed))
