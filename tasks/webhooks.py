"""Webhooks by the clock: a turn begins what waits, and waits for no receiver."""

from __future__ import annotations

import os
import random
from functools import cache, partial

from celery import shared_task

from btcfi.adapters.webhooks import hook_secret
from btcfi.adapters.webhooks.courier import Courier
from btcfi.adapters.webhooks.post import Post
from tasks.carriers import desk_key
from tasks.context import Context, context, hook_rule


@shared_task(name="webhooks.deliver")
def deliver() -> None:
    """Look what happened, and begin to tell the receivers whose turn it is."""
    courier(os.getpid()).turn()


@cache
def courier(_pid: int) -> Courier:
    """Return this process's courier."""
    return make_courier(context())


def make_courier(here: Context) -> Courier:
    """Return a courier of a deployment, which opens a hook's secret by the desk's key when it needs it."""

    def opens(hook_id: str, sealed: bytes) -> bytes:
        return hook_secret.opened(hook_id, sealed, desk_key(os.getpid(), here.deployment).box_secret)

    post = partial(Post, rule=hook_rule(here.deployment))
    return Courier(here.store, opens=opens, posts=(post(), post()), draw=random.random)
