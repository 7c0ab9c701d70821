"""Both sides close a disputed contract together, by the key paths of what it opened: MuSig2, at an amount both name.

A nonce never lies in the folder, and signs once (``btcfi.adapters.nonces``).
"""

from __future__ import annotations

import json
import secrets
from typing import Final

from btcfi.adapters.files import read_untrusted, write_private
from btcfi.adapters.nonces import NonceVault
from btcfi.adapters.party.agreements import StepOutOfOrderError
from btcfi.adapters.party.dispute_room import DisputeRoom, Json
from btcfi.bitcoin.fees import SatsPerKvb
from btcfi.bitcoin.transaction import Transaction
from btcfi.contracts.messages import canonical
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled.deal import Deal
from btcfi.disputes.garbled.opening import Close, Side, build_close
from btcfi.disputes.stages import Stage
from btcfi.errors import InvalidInputError
from btcfi.hashes import tagged_hash
from btcfi.units import Hash32, Sats

_CLOSE_TAG: Final = "BTCFi/dispute/close/v1"
_MAX_REQUEST: Final = 1 << 16


class Closes:
    """One party's closes."""

    def __init__(self, room: DisputeRoom, vault: NonceVault) -> None:
        self._room, self._vault = room, vault

    def ask(self, name: str, *, payout: Sats, rate: SatsPerKvb) -> Json:
        """Ask the other side to close now. payout: the verifier's, besides its bond. A later request ends this one.

        Raises StepOutOfOrderError, InvalidInputError, WrongMandateError, OutsideMandateError.
        """
        made, close = self._closing(name, payout, rate)
        own = close.nonces(self._room.own(name)["open"], _entropy(close))
        request = wire.CloseRequest(
            contract=made.id, payout=payout, rate=rate, nonces=tuple(one.public for one in own)
        )  # fmt: skip
        for at, nonce in enumerate(own):
            self._vault.put(_session(made.id, at), nonce)
        write_private(self._room.files.folder / "closes" / name, canonical(wire.encode_close(request)))
        return wire.encode_close(request)

    def answer(self, message: object, *, payout: Sats) -> Json:
        """Sign our half of a close whose amount we agree to. payout: as we agree to it. Raises as ``ask``."""
        request, files = wire.decode_close(message), self._room.files
        name = self._room.named(request.contract)
        if request.payout != payout:
            raise InvalidInputError("payout_sats", f"{request.payout}", f"{payout}, as you agree to")
        key = tagged_hash(_CLOSE_TAG, canonical(wire.encode_close(request))).hex()
        if (before := files.find_row("answers", key)) is not None:
            return dict(before)
        made, close = self._closing(name, request.payout, request.rate)
        side, secret = files.side_of(name), self._room.own(name)["open"]
        own = close.nonces(secret, _entropy(close))
        mine = tuple(one.public for one in own)
        both = {side: mine, side.other: request.nonces}
        partials = close.sign(secret, own, both[Side.CLAIMANT], both[Side.VERIFIER])
        answer = wire.CloseAnswer(contract=made.id, nonces=mine, partials=tuple(partials))
        files.row("answers", key, wire.encode_close_answer(answer), name)
        return wire.encode_close_answer(answer)

    def finish(self, message: object) -> Transaction:
        """Finish a close that we asked for, and send it. Raises NonceGoneError, WrongSignatureError, and as ``ask``."""
        answer, files = wire.decode_close_answer(message), self._room.files
        name = self._room.named(answer.contract)
        path = files.folder / "closes" / name
        if not path.exists():
            raise StepOutOfOrderError(name, "our own request to close")
        raw = read_untrusted(path, at_most=_MAX_REQUEST, what="request to close")
        request = wire.decode_close(json.loads(raw))
        _, close = self._closing(name, request.payout, request.rate)
        side, secret = files.side_of(name), self._room.own(name)["open"]
        both = {side: request.nonces, side.other: answer.nonces}
        close.check(side.other, both, answer.partials)  # first: a nonce that is taken is gone, and so is the close
        own = [self._vault.take(_session(answer.contract, at), public) for at, public in enumerate(request.nonces)]
        mine = close.sign(secret, own, both[Side.CLAIMANT], both[Side.VERIFIER])
        closed = close.finish(both, {side: mine, side.other: answer.partials})
        files.put_transaction(name, "close", closed)
        self._room.node.send(closed)
        return closed

    def _closing(self, name: str, payout: Sats, rate: SatsPerKvb) -> tuple[Deal, Close]:
        made = self._room.deal(name)
        _, graph = self._room.graph(name, made)
        if self._room.position(name, graph).stage is not Stage.OPEN:
            raise StepOutOfOrderError(name, "an opening in a block, of which nothing is claimed,")
        close = build_close(graph, payout=payout, rate=rate)
        locked = sum(one.value for one in graph.open_txouts)
        fee = Sats(locked - sum(one.value for one in close.transaction.outputs))
        self._room.authority(name).check_close(payout=payout, rate=rate, fee=fee, guest_input=b"")
        return made, close


def _entropy(close: Close) -> list[bytes]:
    return [secrets.token_bytes(32) for _ in close.outputs]


def _session(contract: Hash32, at: int) -> Hash32:
    return tagged_hash(_CLOSE_TAG, contract + bytes([at]))
