"""A party's half of disputed contracts: it proposes, accepts, signs, claims and watches them with its own keystore.

Of what arrives nothing is signed that was not computed here, and every message is a file in the folder
(``dispute_files``) before it leaves: the same step again, after a crash, gives the same answer, and another message of
a step that was answered is refused. What an attempt needs to the end is never removed while its coin may be unspent.

One-time rows, each written before what it stands for leaves: a cut that we committed to, counted by the counterparty's
identity; a fault point that we were shown; the one claim that we ever sign of a contract. The last is also noted
outside the folder for as long as the machine runs, so that a copy of the folder on it does not sign another.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, Final

import numpy as np

from btcfi import secp256k1
from btcfi.adapters.chain.node import Node
from btcfi.adapters.files import read_untrusted, write_private
from btcfi.adapters.keystore import Keystore
from btcfi.adapters.nonces import NonceVault, runtime_folder
from btcfi.adapters.party.agreements import StepOutOfOrderError, WithdrawnError, check_announcements
from btcfi.adapters.party.dispute_files import DisputeFiles, OtherMessageError
from btcfi.adapters.party.store import PartyStore
from btcfi.adapters.party.wallet import PartyWallet
from btcfi.bitcoin.fees import DUST_P2TR, P2TR_INPUT_WEIGHT, SatsPerKvb, fee_for, vsize_of
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.contracts import netting
from btcfi.contracts.messages import canonical
from btcfi.contracts.setup import CoinNotTheirsError, WrongMessageError
from btcfi.contracts.watch import FINAL_DEPTH
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import game, messages, presign
from btcfi.disputes.garbled.deal import (
    Acceptance,
    Deal,
    Draft,
    OwnSecrets,
    Proposal,
    check_first,
    sign_first,
    signed,
)
from btcfi.disputes.garbled.game import Duty, Position, Stage
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.opening import (
    Close,
    Opening,
    Side,
    build_close,
    check_contribution,
    check_opening,
    complete_opening,
    contribution,
    sign_opening,
)
from btcfi.disputes.garbled.presign import Attested, ClaimSecrets, ReadClaim, SilenceSecrets
from btcfi.disputes.garbled.setup import (
    BY_HASH,
    CONSERVATIVE,
    Commitments,
    Cut,
    Garbler,
    Judgement,
    Kept,
    Verdict,
    check_commitments,
    check_cut,
    cut_by_hash,
    draw_cut,
    kept_of,
)
from btcfi.errors import BtcfiError, ConflictError, InvalidInputError, NotFoundError
from btcfi.hashes import tagged_hash
from btcfi.oracle.announcement import Announcement
from btcfi.oracle.attestation import Attestation, check_attestation
from btcfi.units import Hash32, Height, Sats, display_txid

log = logging.getLogger(__name__)

MAX_CUTS: Final = 16
"""That we draw for one counterparty, ever: each is a chance of 2^-40.9 for a set-up that cannot convict (H5)."""

MAX_CUTS_IN_ALL: Final = 1_024
"""For all of them: an identity costs nothing. 2^-30.9 together."""

SWEEP_VSIZE: Final = 112
"""Of a sweep by key path; by a leaf it has up to twenty more, which are paid for."""

_LEAF_VSIZE: Final = 140

_CLOSE_TAG: Final = "BTCFi/dispute/close/v1"

Json = dict[str, Any]


class TooManyCutsError(ConflictError):
    """So many attempts that the chance to be cheated once is no longer what was promised."""

    def __init__(self, identity: str, drawn: int, limit: int) -> None:
        super().__init__(
            f"{drawn} cuts were drawn for {identity} already, of {limit}: each attempt is a chance to cheat; nothing "
            "was drawn"
        )
        self.drawn, self.limit = drawn, limit


class ClaimedOtherError(ConflictError):
    """A claim other than the one that we signed: two of them give the other side the fault secret."""

    def __init__(self, contract: str, where: str) -> None:
        super().__init__(
            f"dispute {contract[:16]}: another claim of it was signed already ({where}); a second one would give the "
            "other side the fault secret, and all of the escrow. Nothing was signed"
        )
        self.contract, self.where = contract, where


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One contract after a look at the chain."""

    name: str
    side: Side
    position: Position | None
    """None before both sides' halves and the set-up are there."""
    duties: tuple[Duty, ...] = ()
    sent: str = ""
    """What we sent just now, in words; empty: nothing."""
    txid: str = ""
    problem: str = ""
    """Why something could not be done; it is tried again at the next look."""
    verdict: Verdict | None = None
    """Of a claim, on the verifier's side."""


class DisputeDesk:
    """One party's disputed contracts."""

    def __init__(
        self, store: PartyStore, keystore: Keystore, node: Node, *, wallet: PartyWallet, rate: SatsPerKvb,
        show: Callable[[str, Draft], None] = lambda *_: None, clock: Callable[[], float] = time.time,
        runtime: Path | None = None,
    ) -> None:  # fmt: skip
        """Take the rooms of a desk.

        rate: of sweeps and children. show: sees what is about to be signed, and refuses by raising. runtime: the folder
        for what must not outlive the machine's run.
        """
        self._store, self._keystore, self._node, self._wallet = store, keystore, node, wallet
        self._rate, self._show, self._clock, self._runtime = rate, show, clock, runtime
        self.files = DisputeFiles(store.folder)
        self._garblers: dict[str, Garbler] = {}
        self._keeps: dict[str, Kept] = {}

    # ---- proposing and accepting

    def propose(self, draft: Draft, *, identity_secret: bytes) -> Json:
        """Propose a contract in which we claim, with coins of our wallet. Raises InsufficientFundsError."""
        self._check_new("", draft)
        sets = len(_sets(draft))
        with self._store.alone():
            seed = secrets.token_bytes(32)
            half = self._wallet.choose(Sats(max(_brings(Side.CLAIMANT, draft), DUST_P2TR)), draft.rate)
            unsigned = Proposal(
                draft=draft, keys=OwnSecrets(seed, sets).claimant_keys(self._wallet.script), coins=half,
                change_script=self._wallet.script, identity=secp256k1.public_key_xonly(identity_secret),
                signature=bytes(64),
            )  # fmt: skip
            made = signed(unsigned, wire.proposal_id(unsigned), identity_secret, secrets.token_bytes(32))
            name = wire.proposal_id(made).hex()
            # the secret first: a proposal without it could be answered, and then not be played
            self.files.keep_seed(name, Side.CLAIMANT, seed, self._keystore)
            self.files.put(name, "proposal", wire.encode_proposal(made))
        return wire.encode_proposal(made)

    def accept(
        self, message: object, announcements: Sequence[Sequence[Announcement]], *, by_hash: bool = False
    ) -> Json:
        """Answer a proposal with fresh keys and the commitment to one cut; the same again gets the same answer.

        announcements: of each event, as we have them from the oracles. by_hash: a hash draws the cut, so that anybody
        can check the set-up. Raises WrongMessageError, TooManyCutsError,
        WrongAnnouncementError, InvalidInputError, InsufficientFundsError.
        """
        proposal = wire.decode_proposal(message)
        wire.check_proposer(proposal)
        name, draft = wire.proposal_id(proposal).hex(), proposal.draft
        if (before := self.files.find(name, "acceptance")) is not None:
            return dict(before)
        if self.files.find(name, "proposal") is not None and self.files.side_of(name) is Side.CLAIMANT:
            raise StepOutOfOrderError(name, "it is our own proposal: the other side's acceptance")
        self._check_new(name, draft)
        if len(announcements) != len(draft.events):
            raise InvalidInputError("announcements", f"of {len(announcements)} events", f"{len(draft.events)}")
        for offered, expected in zip(draft.events, announcements, strict=True):
            check_announcements(offered, expected)
        check_contribution(Side.CLAIMANT, contribution(proposal.coins, proposal.change_script))
        self._check_coins(proposal.coins)
        self._show("accept", draft)
        with self._store.alone():
            if (before := self.files.find(name, "acceptance")) is not None:
                return dict(before)
            if not by_hash:
                self._count_cut(name, proposal.identity)
            seed = self.files.keep_seed(name, Side.VERIFIER, secrets.token_bytes(32), self._keystore)
            own = OwnSecrets(seed, len(_sets(draft)))
            half = Acceptance(
                proposal_id=Hash32(bytes.fromhex(name)), keys=own.verifier_keys(self._wallet.script),
                coins=self._wallet.choose(Sats(max(_brings(Side.VERIFIER, draft), DUST_P2TR)), draft.rate),
                change_script=self._wallet.script, cut=BY_HASH if by_hash else _drawn(own).commitment(),
            )  # fmt: skip
            Deal(proposal, half, id=wire.contract_id(proposal, half))  # terms that make no contract end here
            self.files.put(name, "proposal", wire.encode_proposal(proposal))
            self.files.put(name, "acceptance", wire.encode_acceptance(half))
        return wire.encode_acceptance(half)

    def _count_cut(self, name: str, identity: bytes) -> None:
        ledger = f"cuts/{identity.hex()}"
        if self.files.find_row(ledger, name) is not None:
            return
        for drawn, limit in ((self.files.count(ledger), MAX_CUTS), (self.files.count_all("cuts"), MAX_CUTS_IN_ALL)):
            if drawn >= limit:
                raise TooManyCutsError(identity.hex()[:16], drawn, limit)
        self.files.row(ledger, name, {"drawn_at_unix": int(self._clock())}, name)

    # ---- signing

    def sign(self, message: Json, *, identity_secret: bytes | None = None) -> Json | Transaction:
        """Answer any message of a contract that both sides know; the last one's answer is the opening, broadcast.

        identity_secret: the claimant's, which signs its first message. Raises InvalidInputError, WrongMessageError,
        OtherMessageError, CheatedError, WrongAdaptorError, WrongSignatureError.
        """
        kind = message.get("type")
        if kind == wire.ACCEPTANCE:
            return self._commit(wire.decode_acceptance(message), identity_secret)
        if kind == wire.FUNDING:
            return self._open(wire.decode_funding(message))
        letter = wire.decode_letter(message)
        steps = {
            wire.COMMITMENTS: self._tell_cut, wire.CUT: self._open_copies, wire.OPENINGS: self._presign,
            wire.CLAIMS: self._fund,
        }  # fmt: skip
        return steps[letter.kind](self._named(letter.contract), letter)

    def _commit(self, half: Acceptance, identity_secret: bytes | None) -> Json:
        name = half.proposal_id.hex()
        self._must_be(name, Side.CLAIMANT)
        if (before := self._said(name, "acceptance", wire.encode_acceptance(half), "commitments")) is not None:
            return before
        proposal = wire.decode_proposal(self.files.find(name, "proposal"))
        if identity_secret is None or secp256k1.public_key_xonly(identity_secret) != proposal.identity:
            raise InvalidInputError("identity", "is not the proposal's", "the identity that signed the proposal")
        self._check_new(name, proposal.draft)
        check_contribution(Side.VERIFIER, contribution(half.coins, half.change_script))
        self._check_coins(half.coins)
        made = Deal(proposal, half, id=wire.contract_id(proposal, half))
        self._show("sign", proposal.draft)
        with self._store.alone():
            self.files.put(name, "acceptance", wire.encode_acceptance(half))
            first = self._garbler(name, made).commitments()
            made.opened(first)  # coins that do not suffice end it here
            data = messages.encode_commitments(first)
            letter = wire.Letter(
                kind=wire.COMMITMENTS, contract=made.id, data=data,
                more=sign_first(made.subject, data, identity_secret, secrets.token_bytes(32)),
            )  # fmt: skip
            return self._say(name, "commitments", wire.encode_letter(letter))

    def _tell_cut(self, name: str, letter: wire.Letter) -> Json:
        self._must_be(name, Side.VERIFIER)
        if (before := self._said(name, "commitments", wire.encode_letter(letter), "cut")) is not None:
            return before
        made = self._deal(name)
        self._check_new(name, made.proposal.draft)
        check_first(made.subject, letter.data, made.proposal.identity, letter.more)
        first = messages.decode_commitments(made.subject, letter.data)
        check_commitments(made.subject, first)
        made.opened(first)
        with self._store.alone():
            # by x: a point and its opposite have one secret
            self.files.row("faults", first.fault[1:].hex(), {"contract": name}, name)
            self.files.put(name, "commitments", wire.encode_letter(letter))
            data = messages.encode_cut(_cut(made, self._own(name), first))
            return self._say(name, "cut", wire.encode_letter(wire.Letter(kind=wire.CUT, contract=made.id, data=data)))

    def _open_copies(self, name: str, letter: wire.Letter) -> Json:
        self._must_be(name, Side.CLAIMANT)
        if (before := self._said(name, "cut", wire.encode_letter(letter), "openings")) is not None:
            return before
        made = self._deal(name)
        cut = messages.decode_cut(made.subject, letter.data)
        check_cut(made.subject, cut, self._commitments(name, made))
        with self._store.alone():
            self.files.put(name, "cut", wire.encode_letter(letter))
            garbler, own = self._garbler(name, made), self._own(name)
            _, graph = self._graph(name, made)
            silence = presign.presign_silence(graph, SilenceSecrets(silence=own.digits, both=own["both"]))
            reply = wire.Letter(
                kind=wire.OPENINGS, contract=made.id, data=messages.encode_openings(garbler.openings(cut)),
                more=messages.encode_silence(silence),
            )  # fmt: skip
            return self._say(name, "openings", wire.encode_letter(reply))

    def _presign(self, name: str, letter: wire.Letter) -> Json:
        self._must_be(name, Side.VERIFIER)
        if (before := self._said(name, "openings", wire.encode_letter(letter), "claims")) is not None:
            return before
        made = self._deal(name)
        self._check_new(name, made.proposal.draft)
        self._kept(name, made, letter)
        _, graph = self._graph(name, made)
        presign.check_silence(graph, messages.decode_silence(graph, letter.more))
        own = self._own(name)
        with self._store.alone():
            self.files.put(name, "openings", wire.encode_letter(letter))
            claims = presign.presign_claims(
                graph, ClaimSecrets(digits=own.digits, claim=own["claim"], both=own["both"])
            )  # fmt: skip
            reply = wire.Letter(kind=wire.CLAIMS, contract=made.id, data=messages.encode_claims(claims))
            return self._say(name, "claims", wire.encode_letter(reply))

    def _fund(self, name: str, letter: wire.Letter) -> Json:
        self._must_be(name, Side.CLAIMANT)
        if (before := self._said(name, "claims", wire.encode_letter(letter), "funding")) is not None:
            return before
        made = self._deal(name)
        self._check_new(name, made.proposal.draft)
        opening, graph = self._graph(name, made)
        presign.check_claims(graph, messages.decode_claims(graph, letter.data))
        self._check_coins(made.acceptance.coins)
        with self._store.alone():
            if self.files.find(name, "withdrawn") is not None:
                raise WithdrawnError(name)
            self.files.put(name, "claims", wire.encode_letter(letter))
            witnesses = sign_opening(opening, Side.CLAIMANT, self._wallet.by_script)
            self._note_start(name)
            reply = wire.FundingWitnesses(contract=made.id, witnesses=witnesses)
            return self._say(name, "funding", wire.encode_funding(reply))

    def _open(self, message: wire.FundingWitnesses) -> Transaction:
        name = self._named(message.contract)
        self._must_be(name, Side.VERIFIER)
        found = self.files.find_transaction(name, "opening")
        if found is None:
            made = self._deal(name)
            if self.files.find(name, "claims") is None:
                raise StepOutOfOrderError(name, "the openings, and our own signatures of claims,")
            self._check_new(name, made.proposal.draft)
            opening, _ = self._graph(name, made)
            check_opening(opening, Side.CLAIMANT, message.witnesses)
            self._check_coins(made.proposal.coins)
            with self._store.alone():
                if self.files.find(name, "withdrawn") is not None:
                    raise WithdrawnError(name)
                self.files.put(name, "funding", wire.encode_funding(message))
                own = sign_opening(opening, Side.VERIFIER, self._wallet.by_script)
                found = complete_opening(opening, claimant=message.witnesses, verifier=own)
                self._note_start(name)
                self.files.put_transaction(name, "opening", found)  # before it is sent: a crash loses nothing
        self._node.send(found)
        return found

    def withdraw(self, name: str) -> None:
        """Take a contract back of which no coin of ours was signed; ours are free. Raises StepOutOfOrderError."""
        with self._store.alone():
            side = self.files.side_of(name)
            gone = "funding" if side is Side.CLAIMANT else "opening"
            if (self.files.find(name, "funding") if gone == "funding" else self._opening_of(name)) is not None:
                raise StepOutOfOrderError(name, "our coins are signed: `btcfi dispute cancel` spends them")
            self.files.put(name, "withdrawn", {"at_unix": int(self._clock())})

    def cancel(self, name: str) -> Transaction:
        """Spend our coins of an opening that no block holds to ourselves. Raises StepOutOfOrderError.

        Everything that was pre-signed is kept: until this is final the opening may be mined in its place.
        """
        with self._store.alone():
            made, side = self._deal(name), self.files.side_of(name)
            opening, _ = self._graph(name, made)
            coins = (made.proposal if side is Side.CLAIMANT else made.acceptance).coins
            if None in self._node.unspent_many([one.outpoint for one in coins], include_pool=False):
                raise StepOutOfOrderError(name, "a block spent its coins: `btcfi dispute close`")
            # twice the opening's whole fee: it may have to replace it in the pool
            fee = Sats(2 * sum(opening.fees.values()) + fee_for(vsize_of(len(coins) * P2TR_INPUT_WEIGHT), self._rate))
            back = TxOut(value=Sats(sum(one.value for one in coins) - fee), script=self._wallet.script)
            home = Transaction(
                version=2, inputs=tuple(TxIn(outpoint=one.outpoint, sequence=0xFFFFFFFD) for one in coins),
                outputs=(back,),
            )  # fmt: skip
            spent, keys = [one.output for one in coins], self._wallet.by_script
            for at, one in enumerate(spent):
                home = home.with_witness(at, [keys[one.script].sign_input(home, at, spent)])
            self.files.put_transaction(name, "home", home)
            self._node.send(home)
            return home

    # ---- claiming

    def claim(self, name: str, attested: Attested | None = None) -> Transaction:
        """Sign the one claim that follows from what the oracles attested, and send it. Raises ClaimedOtherError.

        attested: as a claim of silence shows it; else what the folder has. Raises NotFoundError where not enough
        oracles attested, StepOutOfOrderError where nothing can be claimed now.
        """
        self._must_be(name, Side.CLAIMANT)
        made = self._deal(name)
        _, graph = self._graph(name, made)
        here = self._position(name, graph)
        if here.stage not in {Stage.OPEN, Stage.SILENT}:
            raise StepOutOfOrderError(name, f"it is {here.stage}: an opening in a block, and no claim yet,")
        attested = attested or self._attested(graph) or self._shown(name, graph, here)
        if attested is None:
            raise NotFoundError("attestations", name[:16], f"{graph.terms.threshold} oracles must agree on each event")
        return self._claim(name, made, graph, here, attested)

    def _claim(self, name: str, made: Deal, graph: Graph, here: Position, attested: Attested) -> Transaction:
        theirs, own = self._claims(name, graph), self._own(name)
        number = self._write_claim(name, made, graph, attested)
        signed_claim = presign.build_claim(
            graph, theirs, self._garbler(name, made), number=number, attested=attested, claim=own["claim"],
            silent=here.stage is Stage.SILENT,
        )  # fmt: skip
        self._send(name, signed_claim)
        return signed_claim

    def _write_claim(self, name: str, made: Deal, graph: Graph, attested: Attested) -> int:
        """Write the one-time row of a contract's claim, here and beside the folder; return the claimed range."""
        outcomes = _outcomes(graph, attested)
        number = _range_of(graph, outcomes)
        row: Json = {"contract": made.id.hex(), "number": number, "outcomes": outcomes}
        mark = self._mark(made.id)
        with self._store.alone():
            if mark.exists() and json.loads(read_untrusted(mark, at_most=1 << 16, what="note of a claim")) != row:
                raise ClaimedOtherError(name, "by a copy of this folder, on this machine")
            try:
                self.files.row("claims", name, row, name)
            except OtherMessageError as e:
                raise ClaimedOtherError(name, "as this folder knows") from e
            if not mark.exists():
                write_private(mark, canonical(row))
        return number

    def _mark(self, contract: Hash32) -> Path:
        folder = runtime_folder() if self._runtime is None else self._runtime
        return folder / f"{self._keystore.label(tagged_hash('BTCFi/dispute/mark/v1', contract)).hex()}.claimed"

    # ---- watching

    def watch(self, attestations: Sequence[Attestation] = ()) -> list[Report]:
        """Keep what oracles attested, look at the chain, and do what each contract needs of us now."""
        for one in attestations:
            self.keep(one)
        return [self._watched(name) for name in self.files.names()]

    def keep(self, attestation: Attestation) -> bool:
        """Keep an attestation of an event of ours once it is checked; return whether it is of one.

        Raises WrongAttestationError.
        """
        for name in self.files.names():
            for event in wire.decode_proposal(self.files.find(name, "proposal")).draft.events:
                for announced in event:
                    said = (announced.event.id, announced.oracle_key)
                    if said == (attestation.event, attestation.oracle_key):
                        check_attestation(attestation, announced)
                        if said not in self._store.attestations():  # the first one counts: a second is the oracle's lie
                            self._store.keep_attestation(attestation)
                        return True
        return False

    def show(self, name: str) -> Report:
        """Return where a contract stands; nothing is sent."""
        side = self.files.side_of(name)
        if self.files.find(name, "commitments") is None:
            return Report(name=name, side=side, position=None)
        _, graph = self._graph(name, self._deal(name))
        here = self._position(name, graph)
        return Report(name=name, side=side, position=here, duties=tuple(game.clock(graph, here)))

    def _watched(self, name: str) -> Report:
        side = self.files.side_of(name)
        if self.files.find(name, "started") is None:
            return self.show(name)  # our coins are not signed: there is nothing that could be played
        made = self._deal(name)
        _, graph = self._graph(name, made)
        here = self._position(name, graph)
        if here.stage.ended and self.files.find(name, "ended") is None and self.may_forget(name):
            self.files.put(name, "ended", {"stage": here.stage.value})  # the coins of its children are free again
        act = self._play_claimant if side is Side.CLAIMANT else self._play_verifier
        sent, txid, problem, verdict = "", "", "", None
        try:
            found, verdict = act(name, made, graph, here)
            if found is not None:
                sent, txid = found[0], display_txid(found[1].txid)
        except BtcfiError as e:  # one contract must not hold up the others; it is tried again at the next look
            problem = str(e)
            log.warning("dispute %s: %s", name[:16], e)
        return Report(
            name=name, side=side, position=here, duties=tuple(game.clock(graph, here)), sent=sent, txid=txid,
            problem=problem, verdict=verdict,
        )  # fmt: skip

    def _play_claimant(
        self, name: str, made: Deal, graph: Graph, here: Position
    ) -> tuple[tuple[str, Transaction] | None, Verdict | None]:  # fmt: skip
        own, terms, following = self._own(name), graph.terms, self._node.block_count() + 1
        ripe = here.at is not None and following >= here.at + terms.dispute_blocks
        read = (here.number or 0, here.silent)
        if here.stage in {Stage.OPEN, Stage.SILENT}:
            attested = self._attested(graph) or self._shown(name, graph, here)
            if attested is not None and following > terms.claim_height:
                return ("claim", self._claim(name, made, graph, here, attested)), None
            if here.stage is Stage.OPEN and attested is None and following > terms.refund_height:
                refund = presign.build_refund(graph, self._claims(name, graph), both=own["both"])
                return ("refund", self._send(name, refund)), None
        elif here.stage is Stage.HELD and ripe:
            release = presign.build_release(graph, self._claims(name, graph), read, both=own["both"])
            return ("release", self._send(name, release)), None
        elif here.stage is Stage.CHALLENGED:
            attested = self._attested(graph) or self._silence_shown(name, graph)
            if attested is None:
                raise NotFoundError("attestations", name[:16], "those that were claimed")
            self._write_claim(name, made, graph, attested)  # the digits of the claim that we signed, and no others
            reveal = presign.build_reveal(
                graph, self._claims(name, graph), self._garbler(name, made), read, attested=attested,
                claim=own["claim"], both=own["both"],
            )  # fmt: skip
            return ("reveal", self._send(name, reveal)), None
        elif here.stage in {Stage.CLAIMED, Stage.REVEALED} and ripe and here.last is not None:
            payout = presign.build_payout(
                graph, here.last, payout=own["payout"], script=self._wallet.script, fee=self._fee(_LEAF_VSIZE)
            )  # fmt: skip
            self._node.send(payout)
            return ("payout", payout), None
        return None, None

    def _play_verifier(  # noqa: PLR0911 - a stage, an answer
        self, name: str, made: Deal, graph: Graph, here: Position
    ) -> tuple[tuple[str, Transaction] | None, Verdict | None]:  # fmt: skip
        own, terms, following = self._own(name), graph.terms, self._node.block_count() + 1
        ripe = here.at is not None and following >= here.at + terms.dispute_blocks
        if here.stage is Stage.OPEN and terms.silence_height < following:
            attested = self._attested(graph)
            if attested is not None:
                silence = presign.build_silence(
                    graph, self._silence(name, graph), attested=attested, claim=own["claim"]
                )  # fmt: skip
                return ("silence", self._send(name, silence)), None
        elif here.stage is Stage.SILENT and ripe:
            end = presign.build_silent_end(graph, self._silence(name, graph), both=own["both"])
            return ("silent end", self._send(name, end)), None
        elif here.stage is Stage.HELD:
            return self._answer_held(name, graph, here)
        elif here.stage is Stage.CHALLENGED and ripe and here.last is not None:
            overdue = presign.build_overdue(
                graph, here.last, overdue=own["overdue"], script=self._wallet.script, fee=self._fee(_LEAF_VSIZE)
            )  # fmt: skip
            self._node.send(overdue)
            return ("overdue", overdue), None
        elif here.stage in {Stage.CLAIMED, Stage.REVEALED} and here.last is not None:
            judgement = self._judged(name, made, graph, here)
            if judgement.verdict is not Verdict.CONVICTED or judgement.secret is None:
                return None, judgement.verdict
            disproof = presign.build_disproof(
                graph, here.last, fault=judgement.secret, escrow=own["escrow"], script=self._wallet.script,
                fee=self._fee(SWEEP_VSIZE), entropy=secrets.token_bytes(64),
            )  # fmt: skip
            self._node.send(disproof)
            return ("disproof", disproof), judgement.verdict
        elif terms.is_lazy and here.stage.ended and following > terms.bond_height:
            return self._bond_home(graph, own), None
        return None, None

    def _answer_held(
        self, name: str, graph: Graph, here: Position
    ) -> tuple[tuple[str, Transaction] | None, Verdict | None]:
        attested = self._attested(graph)
        if attested is None:
            raise NotFoundError("attestations", name[:16], "without them a claim cannot be judged before it is shown")
        if here.number == _range_of(graph, _outcomes(graph, attested)):
            return None, Verdict.RIGHT
        challenge = presign.build_challenge(
            graph, self._silence(name, graph), (here.number or 0, here.silent), both=self._own(name)["both"]
        )  # fmt: skip
        return ("challenge", self._send(name, challenge)), None

    def _bond_home(self, graph: Graph, own: OwnSecrets) -> tuple[str, Transaction] | None:
        if self._node.unspent(graph.bond) is None:
            return None
        home = presign.build_bond_home(
            graph, bond=own["bond"], script=self._wallet.script, fee=self._fee(_LEAF_VSIZE)
        )  # fmt: skip
        self._node.send(home)
        return "bond home", home

    def _judged(self, name: str, made: Deal, graph: Graph, here: Position) -> Judgement:
        if here.claim is None or here.last is None:
            raise StepOutOfOrderError(name, "a claim in a block")
        claims = self._claims(name, graph)
        found: ReadClaim = presign.read_claim(graph, claims, here.claim)
        if here.stage is Stage.REVEALED:
            found = found.joined(presign.read_reveal(graph, claims, here.last))
        openings = wire.decode_letter(self.files.find(name, "openings"))
        values, labels = found.named(graph)
        return self._kept(name, made, openings).judge(values, labels)

    # ---- closing together

    def ask_close(self, name: str, *, payout: Sats, rate: SatsPerKvb) -> Json:
        """Ask the other side to close now. payout: the verifier's, besides its bond. A later request ends this one."""
        made, close = self._closing(name, payout, rate)
        own = close.nonces(self._own(name)["open"], _entropy(close))
        vault, request = self._vault(), wire.CloseRequest(
            contract=made.id, payout=payout, rate=rate, nonces=tuple(one.public for one in own)
        )  # fmt: skip
        for at, nonce in enumerate(own):
            vault.put(_session(made.id, at), nonce)
        write_private(self.files.folder / "closes" / name, canonical(wire.encode_close(request)))
        return wire.encode_close(request)

    def answer_close(self, message: object, *, payout: Sats) -> Json:
        """Sign our half of a close whose amount we agree to. payout: as we agree to it. Raises InvalidInputError."""
        request = wire.decode_close(message)
        name = self._named(request.contract)
        if request.payout != payout:
            raise InvalidInputError("payout_sats", f"{request.payout}", f"{payout}, as you agree to")
        key = tagged_hash(_CLOSE_TAG, canonical(wire.encode_close(request))).hex()
        if (before := self.files.find_row("answers", key)) is not None:
            return dict(before)
        made, close = self._closing(name, request.payout, request.rate)
        side, secret = self.files.side_of(name), self._own(name)["open"]
        own = close.nonces(secret, _entropy(close))
        mine = tuple(one.public for one in own)
        both = {side: mine, side.other: request.nonces}
        partials = close.sign(secret, own, both[Side.CLAIMANT], both[Side.VERIFIER])
        answer = wire.CloseAnswer(contract=made.id, nonces=mine, partials=tuple(partials))
        self.files.row("answers", key, wire.encode_close_answer(answer), name)
        return wire.encode_close_answer(answer)

    def finish_close(self, message: object) -> Transaction:
        """Finish a close that we asked for, and send it. Raises NonceGoneError, WrongSignatureError."""
        answer = wire.decode_close_answer(message)
        name = self._named(answer.contract)
        path = self.files.folder / "closes" / name
        if not path.exists():
            raise StepOutOfOrderError(name, "our own request to close")
        request = wire.decode_close(json.loads(read_untrusted(path, at_most=1 << 16, what="request to close")))
        _, close = self._closing(name, request.payout, request.rate)
        side, secret, vault = self.files.side_of(name), self._own(name)["open"], self._vault()
        both = {side: request.nonces, side.other: answer.nonces}
        own = [vault.take(_session(answer.contract, at), public) for at, public in enumerate(request.nonces)]
        mine = close.sign(secret, own, both[Side.CLAIMANT], both[Side.VERIFIER])
        closed = close.finish(both, {side: mine, side.other: answer.partials})
        self.files.put_transaction(name, "close", closed)
        self._node.send(closed)
        return closed

    def _closing(self, name: str, payout: Sats, rate: SatsPerKvb) -> tuple[Deal, Close]:
        made = self._deal(name)
        _, graph = self._graph(name, made)
        if self._position(name, graph).stage is not Stage.OPEN:
            raise StepOutOfOrderError(name, "an opening in a block, of which nothing is claimed,")
        return made, build_close(graph, payout=payout, rate=rate)

    def _vault(self) -> NonceVault:
        return NonceVault(self._keystore, self._runtime)

    # ---- what there is

    def _deal(self, name: str) -> Deal:
        found, half = self.files.find(name, "proposal"), self.files.find(name, "acceptance")
        if found is None or half is None:
            raise StepOutOfOrderError(name, "the proposal and its acceptance")
        proposal, acceptance = wire.decode_proposal(found), wire.decode_acceptance(half)
        return Deal(proposal, acceptance, id=wire.contract_id(proposal, acceptance))

    def _named(self, contract: Hash32) -> str:
        """Return the name of a contract: the id of its proposal."""
        for name in self.files.names():
            half = self.files.find(name, "acceptance")
            if half is None:
                continue
            proposal = wire.decode_proposal(self.files.find(name, "proposal"))
            if wire.contract_id(proposal, wire.decode_acceptance(half)) == contract:
                return name
        raise NotFoundError("dispute", contract.hex()[:16], "`btcfi dispute show` has ours")

    def _own(self, name: str) -> OwnSecrets:
        draft = wire.decode_proposal(self.files.find(name, "proposal")).draft
        return OwnSecrets(self.files.seed(name, self.files.side_of(name), self._keystore), len(_sets(draft)))

    def _garbler(self, name: str, made: Deal) -> Garbler:
        if name not in self._garblers:
            self._garblers[name] = Garbler(made.subject, self._own(name).drawn("garbler"))
        return self._garblers[name]

    def _graph(self, name: str, made: Deal) -> tuple[Opening, Graph]:
        return made.opened(self._commitments(name, made))

    def _commitments(self, name: str, made: Deal) -> Commitments:
        found = self.files.find(name, "commitments")
        if found is None and self.files.side_of(name) is Side.CLAIMANT:
            return self._garbler(name, made).commitments()
        if found is None:
            raise StepOutOfOrderError(name, "the claimant's commitments")
        return messages.decode_commitments(made.subject, b64decode(found["data"]))

    def _kept(self, name: str, made: Deal, openings: wire.Letter) -> Kept:
        if name not in self._keeps:
            first = self._commitments(name, made)
            cut = _cut(made, self._own(name), first)
            said = messages.decode_openings(made.subject, cut, openings.data)
            self._keeps[name] = kept_of(made.subject, first, cut, said, coins=secrets.token_bytes(32))
        return self._keeps[name]

    def _claims(self, name: str, graph: Graph) -> presign.ClaimPresignatures:
        return messages.decode_claims(graph, wire.decode_letter(self.files.find(name, "claims")).data)

    def _silence(self, name: str, graph: Graph) -> presign.SilencePresignatures:
        return messages.decode_silence(graph, wire.decode_letter(self.files.find(name, "openings")).more)

    def _attested(self, graph: Graph) -> Attested | None:
        """Return the outcomes as the first set of oracles attested them that agrees on every event; None: none does."""
        known = self._store.attestations()
        found: list[Mapping[int, Attestation]] = [
            {place: one for place, said in enumerate(event)
             if (one := known.get((said.event.id, said.oracle_key))) is not None}
            for event in graph.terms.events
        ]  # fmt: skip
        for which, oracles in enumerate(graph.terms.sets):
            outcomes = []
            for event in found:
                said = {event[one].outcome if one in event else None for one in oracles}
                outcomes.append(said.pop() if len(said) == 1 else None)
            if None not in outcomes:
                return presign.attested_of(graph, [one for one in outcomes if one is not None], found, which)
        return None

    def _shown(self, name: str, graph: Graph, here: Position) -> Attested | None:
        """Return what a claim of silence on the chain shows."""
        if here.stage is not Stage.SILENT or here.last is None:
            return None
        return presign.read_silence(graph, self._silence(name, graph), here.last)

    def _silence_shown(self, name: str, graph: Graph) -> Attested | None:
        """Return what a claim of silence showed that a claim has followed since."""
        spend = self._spends(name, graph)[0].get(graph.coin)
        if spend is None or spend[0].txid != graph.silence.txid:
            return None
        return presign.read_silence(graph, self._silence(name, graph), spend[0])

    def _opening_of(self, name: str) -> Transaction | None:
        return self.files.find_transaction(name, "opening")

    # ---- the chain

    def _note_start(self, name: str) -> None:
        if self.files.find(name, "started") is None:
            self.files.put(name, "started", {"height": self._node.block_count()})

    def _position(self, name: str, graph: Graph) -> Position:
        spends, opening = self._spends(name, graph)
        return game.position(graph, spends, opening)

    def _spends(self, name: str, graph: Graph) -> tuple[game.Spends, tuple[Transaction, Height] | None]:
        """Read the blocks since we signed: what spends what. Anew each time, so a reorganisation needs no care."""
        started = self.files.find(name, "started")
        first, top = (int(started["height"]) + 1 if started is not None else 0), self._node.block_count()
        opening: tuple[Transaction, Height] | None = None
        spends: dict[Any, tuple[Transaction, Height]] = {}
        if started is None:
            return spends, None
        heights = [Height(at) for at in range(first, top + 1)]
        for start in range(0, len(heights), 100):
            some = heights[start : start + 100]
            for at, block in zip(some, self._node.blocks([self._node.block_hash(h) for h in some]), strict=True):
                for one in block.transactions:
                    if one.txid == graph.coin.txid:
                        opening = one, at
                    for txin in one.inputs:
                        spends[txin.outpoint] = one, at
        return spends, opening

    def _send(self, name: str, transaction: Transaction) -> Transaction:
        """Send what has an anchor with a child that pays; nothing where the pool or a block has it already."""
        if self._node.pool_entries_of([transaction.txid])[0] is not None:
            return transaction
        rivals = self._node.pool_spenders([one.outpoint for one in transaction.inputs])
        if any(one is not None for one in rivals):
            raise ConflictError(f"dispute {name[:16]}: something else waits that spends its coin; the blocks decide")
        coin = self._coin_for(name, transaction)
        child, spent = netting.build_refund_child(
            transaction, coin, change_script=self._wallet.script, rate=self._rate
        )  # fmt: skip
        child = child.with_witness(1, [self._wallet.by_script[coin.output.script].sign_input(child, 1, spent)])
        self.files.put_transaction(name, f"child-{display_txid(transaction.txid)}", child)
        self._node.send_package([transaction, child])
        return transaction

    def _coin_for(self, name: str, transaction: Transaction) -> Coin:
        """Return the coin of the child that we made before, where it is unspent, else a free one."""
        before = self.files.find_transaction(name, f"child-{display_txid(transaction.txid)}")
        also = [] if before is None else [before.inputs[1].outpoint]
        least = self._fee(transaction.vsize + 2 * SWEEP_VSIZE) + DUST_P2TR
        found = next((one for one in self._wallet.free(also) if one.value >= least), None)
        if found is None:
            raise NotFoundError("coin", f"of {least} sats", "send some to the party's wallet: it pays the fees")
        return found

    def _fee(self, vsize: int) -> Sats:
        return fee_for(vsize, self._rate)

    def may_forget(self, name: str) -> bool:
        """Return whether nothing of an attempt can be needed any more: its coins or its end are final in blocks."""
        made = self._deal(name)
        _, graph = self._graph(name, made)
        spends, opening = self._spends(name, graph)
        top, here = self._node.block_count(), game.position(graph, spends, opening)
        if here.stage.ended and here.at is not None:
            home = not graph.terms.is_lazy or graph.bond in spends
            return home and top - here.at + 1 >= FINAL_DEPTH
        coins = (*made.proposal.coins, *made.acceptance.coins)
        others = [spends[one.outpoint] for one in coins if one.outpoint in spends]
        return any(one.txid != graph.coin.txid and top - at + 1 >= FINAL_DEPTH for one, at in others)

    # ---- checks

    def _must_be(self, name: str, side: Side) -> None:
        if self.files.side_of(name) is not side:
            raise WrongMessageError("dispute", f"is for the {side.value} of {name[:16]}, and we are the other side")

    def _said(self, name: str, received: str, message: Json, reply: str) -> Json | None:
        """Return what we answered to this message before, None if nothing. Raises OtherMessageError for another."""
        before, said = self.files.find(name, received), self.files.find(name, reply)
        if before is not None and canonical(before) != canonical(message):
            raise OtherMessageError(name, received)
        return None if said is None or before is None else dict(said)

    def _say(self, name: str, what: str, message: Json) -> Json:
        self.files.put(name, what, message)
        return message

    def _check_new(self, name: str, draft: Draft) -> None:
        if name and self.files.find(name, "withdrawn") is not None:
            raise WithdrawnError(name)
        if self._clock() >= draft.valid_until:
            raise StepOutOfOrderError(name, "its time is over: a new proposal")
        known = self._store.attestations()
        if any((one.event.id, one.oracle_key) in known for event in draft.events for one in event):
            raise StepOutOfOrderError(name, "an outcome of it is attested already: another event")
        if self._node.block_count() >= draft.silence_height:
            raise InvalidInputError("silence_height", f"{draft.silence_height}", "above the chain's height")

    def _check_coins(self, coins: Sequence[Coin]) -> None:
        ours = self._wallet.by_script
        found = self._node.unspent_many([one.outpoint for one in coins], include_pool=True)
        for coin, one in zip(coins, found, strict=True):
            if one is None or one.output != coin.output or not one.is_spendable:
                problem = "is spent, unconfirmed, immature or another"
                raise InvalidInputError(f"coin {coin.outpoint}", problem, "a confirmed coin that may be spent")
            if coin.output.script in ours:
                raise CoinNotTheirsError("the other side", str(coin.outpoint))


def _sets(draft: Draft) -> range:
    if not draft.events or not 1 <= draft.threshold <= len(draft.events[0]):
        raise InvalidInputError("threshold", f"{draft.threshold}", "1 to as many as there are oracles")
    return range(comb(len(draft.events[0]), draft.threshold))


def _brings(side: Side, draft: Draft) -> int:
    if side is Side.CLAIMANT:
        return draft.collateral + draft.bond - draft.premium
    return draft.challenge_bond + draft.premium


def _cut(made: Deal, own: OwnSecrets, first: Commitments) -> Cut:
    return cut_by_hash(made.subject, first) if made.subject.by_hash else _drawn(own)


def _drawn(own: OwnSecrets) -> Cut:
    return draw_cut(CONSERVATIVE, own.drawn("cut") + own.drawn("cut-nonce"))


def _outcomes(graph: Graph, attested: Attested) -> list[int]:
    outcomes = [0] * len(graph.terms.events)
    for place, value in attested.values.items():
        digit = graph.points.digit(place)
        outcomes[digit.event or 0] |= value << digit.low_bit
    return outcomes


def _range_of(graph: Graph, outcomes: Sequence[int]) -> int:
    return int(graph.terms.claim.range_of(np.array(outcomes)[:, None])[0])


def _entropy(close: Close) -> list[bytes]:
    return [secrets.token_bytes(32) for _ in close.outputs]


def _session(contract: Hash32, at: int) -> Hash32:
    return tagged_hash(_CLOSE_TAG, contract + bytes([at]))
