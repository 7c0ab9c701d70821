"""A party that answers by itself: messages come into one folder, answers go into another, the chain is watched.

What it agrees to is its owner's word: the mandate, always; and inside it orders, which it offers, and bids, a folder of
terms that it accepts, each once and only when an offer says exactly the same, announcements included. What was signed
for a market, an offer or a take, is such a word too (``market_deals``). Where the mandate says ``unbidden``, everything
inside its bounds is agreed to, also what the service or the other side proposes. Every file is handled once: then it
lies in ``done``, or in ``refused`` beside a line that says why. What may succeed later stays where it is.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Final

from btcfi.adapters.files import (
    UntrustedFileError,
    make_private,
    move_within,
    read_untrusted_json,
    real_folder,
    remove_within,
    write_private,
)
from btcfi.adapters.party.desk import PartyDesk
from btcfi.adapters.party.market_deals import Agreed, MarketDeals
from btcfi.adapters.party.membership import JOIN
from btcfi.adapters.party.watching import Report, encode_reports
from btcfi.bitcoin.transaction import Transaction
from btcfi.bitcoin.wallet import InsufficientFundsError
from btcfi.contracts.messages import (
    MAX_MESSAGE_BYTES,
    ContractTerms,
    Offer,
    Order,
    Role,
    decode_accept,
    decode_attestation,
    decode_close_answer,
    decode_close_order,
    decode_close_proposal,
    decode_close_request,
    decode_offer,
    decode_order,
    decode_proposal,
    decode_sign,
    decode_withdrawal,
    encode_accept,
    encode_close_answer,
    encode_close_request,
    encode_offer,
    encode_sign,
)
from btcfi.contracts.watch import Action
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError, RetryableError
from btcfi.market import batch_letters, closing, transfer_letters
from btcfi.market.part import WHERE
from btcfi.market.transferring import Round
from btcfi.units import Height, display_txid

log = logging.getLogger(__name__)

MAX_NAME_BYTES: Final = 200
"""Of a message's file: the names of our answer and of a refusal's reason are made of it, and no file's exceeds 255."""

LOOK_AGAIN_SECONDS: Final = 10
"""So often the pool is looked at while something of ours waits there: who contests it does not wait for a block."""

_ROOMS: Final = ("done", "refused")
"""Of a folder of messages: where they go once they are handled."""

ANSWER_SECONDS: Final = 10
"""After so long a round stops answering and looks at the chain: a folder that is flooded must not keep us from it."""

_CONTESTED: Final = frozenset({Action.SETTLE, Action.REFUND})

STATUS_FILE: Final = "status.json"
"""In the outbox: every contract's standing after the last round."""


_Answer = tuple[str, dict[str, Any]] | None


class SaleWithdrawnError(ConflictError):
    """A proposal or an offer of a sale that has come to nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the sale {name[:64]!a} came to nothing before this was answered")
        self.name = name


class PartyMail:
    """One desk with its inbox, its outbox, and its owner's orders and bids."""

    def __init__(
        self, desk: PartyDesk, *, inbox: Path, outbox: Path, orders: Path | None = None, bids: Path | None = None,
        deals: MarketDeals | None = None, handled: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """Take the folders. orders, bids: None where the mandate is all that the owner says.

        deals: at the market that the party has joined. handled: called after each message that was.
        """
        self._desk, self._inbox, self._outbox, self._bids = desk, inbox, outbox, bids
        self._deals, self._handled = deals, handled
        self._let_go_at = 0.0
        self._sources = [inbox] if orders is None else [orders, inbox]
        self._learned = 0
        self._unanswered: deque[Path] = deque()
        """What lay in the folders when they were last listed; all of it has its turn before what came later."""
        self._walked: tuple[Height, int] | None = None
        self._look_again = inf
        self._waiting: dict[str, str] = {}
        self._short: set[str] = set()
        """Messages that wait for coins, as their files say."""
        self._orders_to: dict[str, Callable[[Any, str], _Answer]] = {
            "btcfi/order": self._order,
            "btcfi/close-order": self._close_order,
        }
        self._answers: dict[str, Callable[[Any, str], _Answer]] = {
            "btcfi/offer": self._offer,
            "btcfi/accept": self._accept,
            "btcfi/sign": self._sign,
            "btcfi/close-request": self._close_request,
            "btcfi/close-answer": self._close_answer,
            "btcfi/proposal": self._proposal,
            "btcfi/close-proposal": self._close_proposal,
            "btcfi/close-offer": self._close_offer,
            "btcfi/close-go": self._close_go,
            "btcfi/close-done": self._close_done,
            "btcfi/close-over": self._close_over,
            "btcfi/attestation": self._attestation,
            "btcfi/withdrawal": self._withdrawal,
            **{f"btcfi/{kind}": partial(self._transfer_ask, said) for kind, said in transfer_letters.ASKS.items()},
            f"btcfi/{transfer_letters.DONE}": self._transfer_done,
            f"btcfi/{transfer_letters.OVER}": self._transfer_over,
            f"btcfi/{batch_letters.PROPOSAL}": self._batch_proposal,
            f"btcfi/{batch_letters.ALL}": self._batch_all,
            f"btcfi/{batch_letters.DONE}": self._batch_done,
        }
        for folder in (*self._sources, outbox, *([] if bids is None else [bids / "used"])):
            with suppress(UntrustedFileError):  # something else lies there: the chain is watched all the same
                make_private(folder, named=True)
        for folder in self._sources:
            self._waiting_in(folder)

    def round(self, height: Height) -> int:
        """Handle the messages that wait; watch when a block or an attestation is new. Returns how many it handled.

        What is not handled in ANSWER_SECONDS waits for the next round: the chain is watched in between.
        """
        handled, until = 0, monotonic() + ANSWER_SECONDS
        if not self._unanswered:
            for folder in self._sources:
                self._unanswered.extend(self._waiting_in(folder))
        while self._unanswered and monotonic() < until:
            handled += self._handle_apart(self._unanswered.popleft())
            self._handled()
        if self._outbox_waits():
            self._handled()  # our owner's own commands put letters there, too
        self._let_go_lapsed()
        here = (height, self._learned)
        if here != self._walked or monotonic() >= self._look_again:
            reports = self._desk.watch()
            self._write_status(reports)
            self._say_yes(reports)
            self._walked = here
            contested = any(report.action in _CONTESTED or report.status is None for report in reports)
            self._look_again = monotonic() + LOOK_AGAIN_SECONDS if contested else inf
        return handled

    def _say_yes(self, reports: Sequence[Report]) -> None:
        """Tell the desk, once a run, which contracts may end together with others, where our owner lets them."""
        for option in self._desk.batches.due_yes({report.name: report.status for report in reports}):
            self._put(f"{option}.{batch_letters.YES}.json", batch_letters.encode_yes())

    def _outbox_waits(self) -> bool:
        with suppress(OSError), real_folder(self._outbox):
            return any(path.name != STATUS_FILE for path in self._outbox.glob("[!.]*.json"))
        return False

    def _let_go_lapsed(self) -> None:
        """Free what a deal that came to nothing holds: a service that never says so must not hold our coins."""
        if self._deals is not None and monotonic() >= self._let_go_at:
            for name in self._desk.let_go_lapsed():
                log.info("contract %s came to nothing in its time; its coins are free", name[:16])
                self._walked = None  # what was signed goes home by the watch, which waits for no block
            self._desk.transfers.let_go_lapsed()
            self._let_go_at = monotonic() + LOOK_AGAIN_SECONDS

    def _waiting_in(self, folder: Path) -> list[Path]:
        """Return the messages of a folder; none, and say why, where it or a room of it is a link or no folder."""
        try:
            with real_folder(folder, rooms=_ROOMS):
                return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
        except OSError as e:
            self._say_once(folder, e)
            return []

    def _handle_apart(self, path: Path) -> bool:
        """Handle one message; what its file does to us must not keep us from the others, nor from the chain."""
        try:
            return self._handle(path)
        except OSError as e:
            self._say_once(path, e)
            return False
        except Exception as e:  # a fault of ours that one message brings out: the chain is watched all the same
            log.exception("%s could not be handled", ascii(path.name))
            return self._refuse(path, f"{type(e).__name__}: {e}")

    def _refuse(self, path: Path, why: str) -> bool:
        """Move a message aside, with its reason."""
        self._write_why(path, "reason", why)
        self._waits_no_more(path)
        try:
            move_within(path, "refused")
        except OSError as e:
            self._say_once(path, e)
            return False
        return True

    @staticmethod
    def _write_why(path: Path, kind: str, why: str) -> None:
        with suppress(OSError):  # its name may leave no room; what it says stands in the log
            reason = f"{why}\n".encode(errors="backslashreplace")
            write_private(path.parent / "refused" / f"{path.stem}.{kind}", reason)

    def _waits_for_coins(self, path: Path, e: InsufficientFundsError) -> None:
        """Say in the log and beside the refusals that a message waits for coins; how many there are is nobody's."""
        if path.name not in self._short:
            self._short.add(path.name)
            self._write_why(path, "waiting", f"it has not the coins: {e.needed:,} sats are needed, fee included")
        self._say_once(path, e)

    def _waits_no_more(self, path: Path) -> None:
        self._short.discard(path.name)
        with suppress(OSError):  # it never did
            remove_within(path.parent / "refused" / f"{path.stem}.waiting")

    def _say_once(self, path: Path, e: Exception) -> None:
        if self._waiting.get(path.name) != str(e):
            log.warning("%s waits: %s", ascii(path.name), e)
            self._waiting[path.name] = str(e)

    def _handle(self, path: Path) -> bool:
        try:
            try:
                _check_name(path.name)
                message = read_untrusted_json(path, at_most=MAX_MESSAGE_BYTES, what="message")
                kind = message["type"]
                answer_to = self._answers[kind] if path.parent == self._inbox else self._orders_to[kind]
            except NotFoundError:
                return False  # taken back by who put it there
            except (KeyError, TypeError) as e:
                raise InvalidInputError(
                    "message", f"{path.name} is none that is answered here", "a setup message"
                ) from e
            answer = answer_to(message, path.name.split(".")[0])
        except InsufficientFundsError as e:  # a coin may confirm
            self._waits_for_coins(path, e)
            return False
        except RetryableError as e:
            self._say_once(path, e)
            return False
        except BtcfiError as e:
            log.warning("%s refused: %s", ascii(path.name), e)
            return self._refuse(path, str(e))
        if answer is not None:
            kind, body = answer
            name = path.name.split(".")[0]
            self._put(f"{name}.{kind}.json", body)
        self._waits_no_more(path)
        move_within(path, "done")
        return True

    def _order(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        order = decode_order(message)
        return "offer", encode_offer(self._desk.offer(order.terms, order.role, order=name))

    def _close_order(self, message: Any, _: str) -> _Answer:  # noqa: ANN401 - JSON
        order = decode_close_order(message)
        request = self._desk.request_close(
            order.offer_id.hex(), payout=order.payout, rate=order.rate, guest_input=order.guest_input
        )
        return "close-request", encode_close_request(request)

    def _offer(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        offer = decode_offer(message)
        self._check_not_withdrawn(name)
        accepted = self._desk.accepted(offer)
        if accepted is None and WHERE in message:
            agreed = self._agreed(message, offer.terms, offer.role.other, name)
            accepted = self._desk.accept(offer, None, bid=name, agreed=agreed)
        elif accepted is None:
            found = self._bid(offer, name)
            if found is None:
                self._needs_no_bid("offer", "terms and announcements of one of our bids")
                accepted = self._desk.accept(offer, None)
            else:  # the contract's file says which bid it answers: a bid is spent when, and only when, it is there
                accepted = self._desk.accept(offer, found[1].terms.announcements, bid=found[0].name)
        self._tidy_bids()
        return "accept", encode_accept(accepted)

    def _tidy_bids(self) -> None:
        answered = self._desk.orders()
        for path in self._all_bids():
            if path.name in answered:
                path.replace(path.parent / "used" / path.name)

    def _all_bids(self) -> list[Path]:
        return [] if self._bids is None else sorted(self._bids.glob("*.json"))

    def _needs_no_bid(self, what: str, expected: str) -> None:
        if not self._desk.owner.mandate().mandate.unbidden:
            raise InvalidInputError(
                what, "says what no bid of ours says", f"{expected}; or a mandate that asks for none"
            )

    def _proposal(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        """Offer what the service proposes, where our owner has said that what is inside the mandate needs no order."""
        proposal = decode_proposal(message)
        self._check_not_withdrawn(name)
        agreed = None
        if WHERE in message and name not in self._desk.orders():
            agreed = self._agreed(message, proposal.terms, proposal.role, name)
        elif WHERE not in message:
            self._needs_no_bid("proposal", "an order of our own")
        return "offer", encode_offer(self._desk.offer(proposal.terms, proposal.role, order=name, agreed=agreed))

    def _agreed(self, message: Any, terms: ContractTerms, role: Role, name: str) -> Agreed:  # noqa: ANN401 - JSON
        """Return the deal that a message's market part makes, where our own signed word is half of it."""
        if self._deals is None:
            raise InvalidInputError(WHERE, "of a market that we have not joined", JOIN)
        return self._deals.agree(message[WHERE], terms=terms, role=role, name=name)

    def _check_not_withdrawn(self, name: str, *, rooms: Sequence[str] = ("", *_ROOMS)) -> None:
        """Refuse what belongs to a sale that the service has taken back, whichever of the two is read first.

        rooms: of the inbox in which its withdrawal lies; once that was handled, a contract says so itself.
        """
        withdrawal = f"{name}.withdrawal.json"
        if any((self._inbox / room / withdrawal).exists() for room in rooms):
            raise SaleWithdrawnError(name)

    def _withdrawal(self, message: Any, name: str) -> None:  # noqa: ANN401 - JSON
        for kind in ("proposal", "offer"):
            self._waits_no_more(self._inbox / f"{name}.{kind}.json")
        self._desk.withdraw(name, decode_withdrawal(message).offer_id)

    def _close_proposal(self, message: Any, _: str) -> _Answer:  # noqa: ANN401 - JSON
        proposal = decode_close_proposal(message)
        self._needs_no_bid("close proposal", "an order of our own")
        self._desk.check_exercise(self._desk.contract_id(proposal.offer_id.hex()), proposal.guest_input)
        request = self._desk.request_close(
            proposal.offer_id.hex(), payout=proposal.payout, rate=proposal.rate, guest_input=proposal.guest_input
        )
        return "close-request", encode_close_request(request)

    def _accept(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        self._check_not_withdrawn(name, rooms=("",))
        return "sign", encode_sign(self._desk.sign(decode_accept(message), named=name))

    def _sign(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        self._check_not_withdrawn(name, rooms=("",))
        return "funded", _broadcast("btcfi/funded", self._desk.complete(decode_sign(message), named=name))

    def _close_request(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        request = decode_close_request(message)
        try:
            bid = decode_close_order(self._read_bid(f"{name}.json"))
        except NotFoundError:
            self._needs_no_bid("close request", f"a bid named {name}")
            answer = self._desk.answer_close(request, payout=request.payout, unbidden=True)
            return "close-answer", encode_close_answer(answer)
        wanted = (self._desk.contract_id(bid.offer_id.hex()), bid.rate, bid.guest_input)
        if (request.contract_id, request.rate, request.guest_input) != wanted:
            raise InvalidInputError("close request", "says what our bid does not say", "contract, rate and input of it")
        return "close-answer", encode_close_answer(self._desk.answer_close(request, payout=bid.payout))

    def _close_answer(self, message: Any, _: str) -> _Answer:  # noqa: ANN401 - JSON
        return "closed", _broadcast("btcfi/closed", self._desk.finish_close(decode_close_answer(message)))

    def _close_offer(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        """Answer an offer to close that our owner has agreed to; until then, or until it lapses, it waits."""
        take = self._desk.closes.offered(closing.decode_offer(message), closing.option_of(name))
        return closing.TAKE, closing.encode_take(take)

    def _close_go(self, message: Any, _: str) -> _Answer:  # noqa: ANN401 - JSON
        return closing.LAST, closing.encode_last(self._desk.closes.go(closing.decode_go(message)))

    def _close_done(self, message: Any, _: str) -> None:  # noqa: ANN401 - JSON
        self._desk.closes.done(closing.decode_done(message))
        self._walked = None  # it is watched from now on

    def _close_over(self, message: Any, _: str) -> None:  # noqa: ANN401 - JSON
        self._desk.closes.over(closing.decode_over(message))

    def _transfer_ask(self, said: Round, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        """Say our word of a transfer, where our own signed text is one of its three."""
        if self._deals is None:
            raise InvalidInputError(transfer_letters.PART, "of a market that we have not joined", JOIN)
        ask = transfer_letters.decode_ask(said, message)
        word = self._desk.transfers.asked(ask, name, self._deals.member)
        self._walked = None  # a new contract may have to be watched from now on
        return transfer_letters.kind_of(said), transfer_letters.encode_word(ask.part.take.take.id, said, word)

    def _transfer_done(self, message: Any, _: str) -> None:  # noqa: ANN401 - JSON
        self._desk.transfers.done(message)
        self._walked = None

    def _transfer_over(self, message: Any, _: str) -> None:  # noqa: ANN401 - JSON
        self._desk.transfers.over(message)
        self._walked = None  # what was signed goes home by the watch

    def _batch_proposal(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        """Answer with our nonces, once all of it follows from our own records; until we know the price it waits."""
        said = self._desk.batches.proposed(batch_letters.decode_proposal(message, name))
        return batch_letters.NONCES, batch_letters.encode_nonces(said)

    def _batch_all(self, message: Any, name: str) -> _Answer:  # noqa: ANN401 - JSON
        said = self._desk.batches.signed(batch_letters.decode_all(message, name))
        return batch_letters.PARTIALS, batch_letters.encode_partials(said)

    def _batch_done(self, message: Any, name: str) -> None:  # noqa: ANN401 - JSON
        self._desk.batches.done(batch_letters.decode_done(message, name))
        self._walked = None

    def _attestation(self, message: Any, _: str) -> None:  # noqa: ANN401 - JSON
        self._learned += self._desk.learn(decode_attestation(message))

    def _bid(self, offer: Offer, name: str) -> tuple[Path, Order] | None:
        """Return the bid that says the same as an offer, if there is one that is not answered yet."""
        # the bid of the same name first: with a thousand bids, reading all of them for each offer would take an hour
        answered = self._desk.orders()
        bids = self._all_bids()
        for path in (*(one for one in bids if one.stem == name), *bids):
            if path.name in answered:
                continue
            try:
                message = self._read_bid(path.name)
                if not isinstance(message, dict) or message.get("type") != "btcfi/order":
                    continue
                bid = decode_order(message)
            except NotFoundError:
                continue
            except InvalidInputError as e:  # one bid that cannot be read must not hide the others
                log.warning("bid passed over: %s", e)
                continue
            if bid.terms == offer.terms and bid.role is offer.role.other and offer.terms.announcements:
                return path, bid
        return None

    def _read_bid(self, name: str) -> Any:  # noqa: ANN401 - JSON
        if self._bids is None:
            raise NotFoundError("bid", name)
        return read_untrusted_json(self._bids / name, at_most=MAX_MESSAGE_BYTES, what="bid")

    def _write_status(self, reports: list[Report]) -> None:
        self._put(STATUS_FILE, encode_reports(reports))

    def _put(self, name: str, body: dict[str, Any]) -> None:
        with real_folder(self._outbox):
            write_private(self._outbox / name, json.dumps(body).encode())


def _check_name(name: str) -> None:
    """Raise InvalidInputError for a name from which ours cannot be made, or that no file of ours could tell again."""
    if not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        expected = f"a name of at most {MAX_NAME_BYTES} bytes, in letters that can be shown"
        raise InvalidInputError("message", f"is named {name[:40]!a}", expected)


def _broadcast(kind: str, sent: Transaction) -> dict[str, Any]:
    return {"type": kind, "version": 1, "txid": display_txid(sent.txid), "transaction": sent.to_bytes().hex()}
