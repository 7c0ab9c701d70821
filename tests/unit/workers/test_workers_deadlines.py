"""Rounds that oracle nodes feed: the cluster waits for a round until the aggregator's has ended."""

from btcfi.oracle.round_book import SubmissionPolicy
from settings.deployment import Deployment
from workers.beat import TICK_DELAY_SECONDS


def test_a_round_is_not_closed_before_the_last_node_may_have_spoken():
    deadline = TICK_DELAY_SECONDS + Deployment().round_deadline_seconds
    assert deadline > SubmissionPolicy().open_seconds
