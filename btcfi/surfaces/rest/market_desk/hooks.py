"""Webhooks of an account: where it wants to be told of what ``/me/events`` streams. Nothing here connects anywhere."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response

from btcfi.adapters.store.market import accounts, webhooks
from btcfi.adapters.store.market.webhook_tables import HookState, WebhookRow
from btcfi.adapters.webhooks import hook_secret
from btcfi.errors import NotFoundError
from btcfi.market.webhook import HookRule
from btcfi.surfaces.rest.auth import ROLE, Owner, Signer
from btcfi.surfaces.rest.deps import ACCOUNT, SIGNED, Deps
from btcfi.surfaces.rest.errors import NoDeskError, NoWebhooksError
from btcfi.surfaces.rest.market_desk import shapes
from btcfi.surfaces.rest.market_desk.own import whose
from btcfi.surfaces.rest.problems import documented
from btcfi.surfaces.rest.turns import Rates

REFUSALS: Final = documented(401, 403, 422, 429, 503)
MISSING: Final = REFUSALS | documented(404)

CHANGES_PER_MINUTE: Final = 60
"""Of one account; a tenth of them at once: each test is a request to somebody."""

HookId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="As the list has it.")]


def add_hooks(routes: APIRouter, deps: Deps) -> None:
    """Add the routes."""
    rates = Rates(deps.monotonic, each_per_minute=CHANGES_PER_MINUTE)

    @routes.get("/me/webhooks", responses=MISSING, openapi_extra={ROLE: ACCOUNT})
    def my_webhooks(caller: Owner, query: Annotated[shapes.WhoseQuery, Query()]) -> shapes.Webhooks:
        """List the account's webhooks, the oldest first, with how the last message to each went."""
        account = whose(caller, query.account)
        if account is None:
            raise NotFoundError("account", "of the caller", "an operator names one: ?account=")
        with deps.store.reading() as session:
            return shapes.Webhooks(items=[shown(row) for row in webhooks.hooks_of(session, account)])

    @routes.post(
        "/me/webhooks", status_code=201, responses=MISSING | documented(409, 413, 415), openapi_extra={ROLE: SIGNED}
    )
    def add_webhook(caller: Signer, body: shapes.AddWebhook, response: Response) -> shapes.WebhookAdded:
        """Have every later event of the account sent to a URL; the answer alone has the secret that signs them."""
        rates.take(caller.counted)
        row, secret = add(deps, caller.account or "", body.url, [kind.value for kind in body.kinds])
        response.headers["Location"] = "/api/v1/me/webhooks"
        return shapes.WebhookAdded(webhook=shown(row), secret=secret)

    @routes.post(
        "/me/webhooks/{webhook_id}/test", status_code=202, responses=MISSING | documented(413, 415),
        openapi_extra={ROLE: SIGNED},
    )  # fmt: skip
    def test_webhook(caller: Signer, webhook_id: HookId) -> shapes.Webhook:
        """Have a test sent, after what waits; a webhook that was given up is active again, and hears what it missed."""
        rates.take(caller.counted)
        rule_of(deps)
        with deps.store.transaction() as session:
            return shown(webhooks.test(session, caller.account or "", webhook_id, now=deps.clock()))

    @routes.delete("/me/webhooks/{webhook_id}", responses=MISSING, openapi_extra={ROLE: SIGNED})
    def remove_webhook(caller: Signer, webhook_id: HookId) -> shapes.WebhookRemoved:
        """Remove a webhook of the account; what is on its way may still arrive."""
        with deps.store.transaction() as session:
            webhooks.remove(session, caller.account or "", webhook_id)
        return shapes.WebhookRemoved(id=webhook_id)


def add(deps: Deps, account: str, url: str, kinds: list[str]) -> tuple[WebhookRow, str]:
    """Add a webhook of an account, and return its row and its secret, which is shown once and never stored.

    Raises what its URL and its account deserve, NoDeskError, NoWebhooksError.
    """
    rule_of(deps).endpoint(url)
    if deps.desk is None:
        raise NoDeskError
    entropy = deps.entropy(hook_secret.ENTROPY)
    hook_id, secret, sealed = hook_secret.make(entropy, box_key=deps.desk.public.box_key)
    with deps.store.transaction() as session:
        owner = accounts.account(session, account)
        row = webhooks.add(
            session, hook_id, owner, url=url, kinds=kinds, secret_sealed=sealed, now=deps.clock()
        )  # fmt: skip
    return row, secret


def rule_of(deps: Deps) -> HookRule:
    """Return where messages may go. Raises NoWebhooksError where none are sent."""
    if deps.hooks is None:
        raise NoWebhooksError
    return deps.hooks


def shown(row: WebhookRow) -> shapes.Webhook:
    """Return a webhook as its owner sees it: all but its secret."""
    kinds = [shapes.Eventful(kind) for kind in row.kinds.split(",")]
    return shapes.Webhook(
        id=row.id, url=row.url, kinds=kinds, state=HookState(row.state),
        told_event=row.told_event, waiting=row.told_event < row.newest_event, tries=row.tries,
        last_status=row.last_status, problem=row.problem, told_at_unix=row.told_at_unix,
        created_at_unix=row.created_at_unix,
    )  # fmt: skip
