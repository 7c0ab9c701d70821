"""An option's contract in plain words, for who did not run it: rebuilt from the messages that the store kept."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import HTMLResponse, Response

from btcfi.adapters.store.options import contracts, views
from btcfi.adapters.store.options.attesting import announcements_by_id
from btcfi.adapters.store.options.options import find_option
from btcfi.contracts.explain import Explanation, Messages, verified
from btcfi.contracts.messages import decode_accept, decode_offer, decode_sign
from btcfi.contracts.payouts import decode_terms, guest_payouts
from btcfi.errors import BtcfiError, NotFoundError
from btcfi.oracle.announcement import Announcement
from dashboards.operator.console import Console
from dashboards.operator.gate import Reader

KEPT: Final = 64
"""Explanations in memory, a few kilobytes each: a contract of the same messages has the same words."""

Id = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[!-~]+$")]


class Kind(StrEnum):
    """The messages that set a contract up."""

    OFFER = "offer"
    ACCEPT = "accept"
    SIGN = "sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the page says: the words, or why there are none."""

    words: Explanation | None = None
    problem: str = ""
    """Why it does not hold."""


def add_contract_page(routes: APIRouter, console: Console) -> None:
    """Add the page and the messages as files, which `btcfi party verify` reads at home."""
    known: OrderedDict[tuple[str, ...], Answer] = OrderedDict()

    @routes.get("/options/{option_id}/contract")
    def contract(request: Request, who: Reader, option_id: Id) -> HTMLResponse:
        with console.reading() as session:
            option = find_option(session, option_id)
            row = views.contract(session, option_id)
            said = contracts.kept_messages(session, option_id)
            announced = announcements_by_id(session, row.event_id) if row is not None else ()
        answer = None
        if {Kind.OFFER, Kind.ACCEPT} <= said.keys() and row is not None:
            key = (option.id, *(str(sha) for sha in (row.offer_sha256, row.accept_sha256, row.sign_sha256)))
            answer = known.get(key) or _answer(console, said, announced)
            if answer.words is not None:  # what does not hold is looked at again: a program may be missing
                known[key] = answer
            while len(known) > KEPT:
                known.popitem(last=False)
        return console.page(
            request,
            who,
            "contract.html",
            option=option,
            contract=row,
            answer=answer,
            said=sorted(said, key=list(Kind).index),
        )

    @routes.get("/options/{option_id}/contract/{kind}")
    def message(_who: Reader, option_id: Id, kind: Kind) -> Response:
        with console.reading() as session:
            find_option(session, option_id)
            body = contracts.kept_messages(session, option_id).get(kind)
        if body is None:
            raise NotFoundError(f"{kind} message", option_id[:16], "it is there when the party has sent it")
        headers = {"Content-Disposition": f'attachment; filename="{kind}.json"'}
        return Response(json.dumps(body), media_type="application/json", headers=headers)


def _answer(console: Console, said: dict[str, dict[str, Any]], announced: tuple[Announcement, ...]) -> Answer:
    from btcfi.vm.program import load_program_by_hash  # noqa: PLC0415 - the interpreter compiles when first imported

    try:
        messages = Messages(
            offer=decode_offer(said[Kind.OFFER]), accept=decode_accept(said[Kind.ACCEPT]),
            sign=decode_sign(said[Kind.SIGN]) if Kind.SIGN in said else None,
        )  # fmt: skip
        program = load_program_by_hash(
            messages.offer.terms.announcements[0].event.program_hash.hex(), console.deps.api.programs
        )
        payouts = guest_payouts(decode_terms(messages.offer.terms.option), program)
        return Answer(words=verified(messages, payouts, announcements=announced))
    except BtcfiError as e:
        return Answer(problem=str(e))
