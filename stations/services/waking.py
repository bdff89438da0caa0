"""Waking a station's agent: a job with one number on the station's own queue, after the commit (D7)."""

from __future__ import annotations

import logging
from functools import partial

from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from stations.models import Station
from stations.queues import queue_name

logger = logging.getLogger(__name__)
JOB_SECONDS = (
    900  # a card awaited, written and printed, with every message's patience; the agent's limits come first
)
FEEDER_SECONDS = 12 * 3600  # a whole batch; each of its cards has its own limits
WAITS_SECONDS = 300  # a station that comes back later is asked again by a person


def wake_station(station: Station, function: str, number: int, *, seconds: int = JOB_SECONDS) -> None:
    """Enqueue a listed function with a row's key once the present transaction is committed."""
    transaction.on_commit(partial(_wake, station.code, function, number, seconds), robust=True)


def _wake(code: str, function: str, number: int, seconds: int) -> None:
    """Enqueue the key; an unreachable Redis leaves the row as it is, which people and the sweeper see."""
    try:
        with Redis.from_url(settings.REDIS_URL) as connection:
            Queue(queue_name(code), connection=connection, serializer=JSONSerializer).enqueue(
                function,
                number,
                job_timeout=seconds,
                ttl=WAITS_SECONDS,
                result_ttl=0,
                failure_ttl=WAITS_SECONDS,
            )
    except (RedisError, OSError) as exc:
        logger.warning("station %s cannot be woken (%s)", code, type(exc).__name__)
