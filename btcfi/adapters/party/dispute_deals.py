"""How two parties agree on a disputed contract: proposal, acceptance, and the six messages of its set-up.

Of what arrives nothing is signed that was not computed here, and that the mandate does not allow. Every message is a
file in the folder before it leaves: the same step again, after a crash, gives the same answer, and another message of a
step that was answered is refused.

One-time rows, each written before what it stands for leaves: a cut that we committed to, counted by the counterparty's
identity; a fault point that we were shown; that we have shown the cut, to which first message, beside the folder.

**A folder from an older copy** takes up a contract whose opening a block holds already: the other side says its
messages again, nothing of ours is signed that was not signed before, and no coin. It refuses where it cannot know to
which first message it showed its cut: who has two of them by one cut may have made the second to cheat.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from btcfi import secp256k1
from btcfi.adapters.chain.pool import asking_rate, waiting_on
from btcfi.adapters.party.agreements import StepOutOfOrderError, WithdrawnError, check_announcements
from btcfi.adapters.party.dispute_files import WITHDRAWN
from btcfi.adapters.party.dispute_room import DisputeRoom, Json, cut_of, drawn_cut
from btcfi.adapters.party.settling import REFUND_TARGET_BLOCKS
from btcfi.bitcoin.fees import (
    DUST_P2TR,
    OVERHEAD_WEIGHT,
    P2TR_INPUT_WEIGHT,
    P2TR_OUTPUT_WEIGHT,
    FeeRule,
    choose_rate,
    fee_for,
    vsize_of,
)
from btcfi.bitcoin.transaction import Transaction, TxIn, TxOut
from btcfi.bitcoin.wallet import Coin, InsufficientFundsError
from btcfi.contracts.setup import SetupPolicy, check_oracles
from btcfi.disputes.garbled import deal_messages as wire
from btcfi.disputes.garbled import messages, presign
from btcfi.disputes.garbled.deal import Acceptance, Deal, Draft, OwnSecrets, Proposal, check_first, sign_first, signed
from btcfi.disputes.garbled.opening import (
    Side,
    check_contribution,
    check_opening,
    complete_opening,
    contribution,
    sign_opening,
)
from btcfi.disputes.garbled.presign import ClaimSecrets, SilenceSecrets
from btcfi.disputes.garbled.setup import BY_HASH, CONSERVATIVE, check_commitments, check_cut
from btcfi.errors import ConflictError, InvalidInputError, NotFoundError
from btcfi.hashes import sha256
from btcfi.oracle.announcement import Announcement
from btcfi.units import Hash32, Sats

MAX_CUTS: Final = 16
"""That we draw for one counterparty, ever: each is a chance of 2^-40.9 for a set-up that cannot convict (H5)."""

MAX_CUTS_IN_ALL: Final = 1_024
"""For all of them: an identity costs nothing. 2^-30.9 together."""

UNSENT_SECONDS: Final = 60
"""After a proposal's time what we have signed and our node does not know goes home: until then the other side holds an
option that it has not paid for. As of a net book."""

SPARE_VSIZE: Final = 2_000
"""A coin that pays for so much at the opening's rate must be left to a side, and for what it may have to send."""

_BESIDE_VSIZE: Final = 500
"""Of a transaction with digits and its child, beside those signatures, at most: the answer to a challenge has 430."""

_SIGNATURE_WEIGHT: Final = 1 + 65 + 3
"""Of a digit's signature: in the witness with its length, and three opcodes of the script."""

DRAWN: Final = "drawn"
SHOWN: Final = "shown"
GONE: Final = "gone"
"""Notes beside the folder: a cut was drawn in this run of the machine; to which first message it was shown. And one in
the folder: it may have been shown elsewhere."""


class TooManyCutsError(ConflictError):
    """So many attempts that the chance to be cheated once is no longer what was promised."""

    def __init__(self, identity: str, drawn: int, limit: int) -> None:
        super().__init__(
            f"{drawn} cuts were drawn for {identity} already, of {limit}: each attempt is a chance to cheat; nothing "
            "was drawn"
        )
        self.drawn, self.limit = drawn, limit


class AttemptGoneError(ConflictError):
    """A set-up that a copy of its folder may have gone on with: shown twice, a cut convicts nobody."""

    def __init__(self, contract: str) -> None:
        super().__init__(
            f"dispute {contract[:16]}: its cut was drawn on another machine, before the last boot or in a folder that "
            "this is a copy of, and may have been shown to another first message; nothing was signed. `btcfi dispute "
            "withdraw` it and ask for a new proposal; where a block holds its opening, close it together, `btcfi "
            "dispute close`"
        )
        self.contract = contract


class Deals:
    """One party's half of agreeing."""

    def __init__(self, room: DisputeRoom, *, fees: FeeRule) -> None:
        self._room, self._fees = room, fees

    # ---- proposing and accepting

    def propose(self, draft: Draft, *, identity_secret: bytes) -> Json:
        """Propose a contract in which we claim, with coins of our wallet.

        Raises InvalidInputError for a draft that makes no contract or where a challenge costs less than its answer,
        WrongAnnouncementError, WrongMandateError, OutsideMandateError, InsufficientFundsError.
        """
        room = self._room
        any_ours, any_theirs = (OwnSecrets(secrets.token_bytes(32), draft.sets) for _ in Side)
        script = room.wallet.script
        draft.terms(any_ours.claimant_keys(script), any_theirs.verifier_keys(script), CONSERVATIVE)
        room.check_new("", draft)
        _check_oracles(draft)
        _check_bond(draft)
        room.ask("", draft, Side.CLAIMANT, proposer=None)
        room.show(Side.CLAIMANT, draft)
        with room.store.alone():
            seed = secrets.token_bytes(32)
            half = self._coins(Side.CLAIMANT, draft)
            unsigned = Proposal(
                draft=draft, keys=OwnSecrets(seed, draft.sets).claimant_keys(script), coins=half, change_script=script,
                identity=secp256k1.public_key_xonly(identity_secret), signature=bytes(64),
            )  # fmt: skip
            made = signed(unsigned, wire.proposal_id(unsigned), identity_secret, secrets.token_bytes(32))
            name = wire.proposal_id(made).hex()
            # the secret first: a proposal without it could be answered, and then not be played
            room.files.keep_seed(name, Side.CLAIMANT, seed, room.keystore)
            room.note_start(name)
            room.files.put(name, "proposal", wire.encode_proposal(made))
        return wire.encode_proposal(made)

    def accept(
        self, message: object, announcements: Sequence[Sequence[Announcement]], *, by_hash: bool = False
    ) -> Json:
        """Answer a proposal with fresh keys and the commitment to one cut; the same again gets the same answer.

        announcements: of each event, as we have them from the oracles. by_hash: a hash draws the cut, so that anybody
        can check the set-up. Raises WrongMessageError, TooManyCutsError, WrongMandateError, OutsideMandateError,
        WrongAnnouncementError, InvalidInputError, InsufficientFundsError.
        """
        room = self._room
        proposal = wire.decode_proposal(message)
        wire.check_proposer(proposal)
        name, draft = wire.proposal_id(proposal).hex(), proposal.draft
        if (before := room.files.find(name, "acceptance")) is not None:
            return dict(before)
        if room.files.find(name, "proposal") is not None and room.files.side_of(name) is Side.CLAIMANT:
            raise StepOutOfOrderError(name, "it is our own proposal: the other side's acceptance")
        room.check_new(name, draft)
        if len(announcements) != len(draft.events):
            raise InvalidInputError("announcements", f"of {len(announcements)} events", f"{len(draft.events)}")
        for offered, expected in zip(draft.events, announcements, strict=True):
            check_announcements(offered, expected)
        _check_oracles(draft)
        check_contribution(Side.CLAIMANT, contribution(proposal.coins, proposal.change_script))
        room.check_coins(proposal.coins)
        room.ask(name, draft, Side.VERIFIER, proposer=proposal.identity)
        room.show(Side.VERIFIER, draft)
        with room.store.alone():
            if (before := room.files.find(name, "acceptance")) is not None:
                return dict(before)
            room.ask(name, draft, Side.VERIFIER, proposer=proposal.identity)  # the owner may have read for an hour
            chosen = self._coins(Side.VERIFIER, draft)
            if not by_hash:
                self._count_cut(name, proposal.identity)
            seed = room.files.keep_seed(name, Side.VERIFIER, secrets.token_bytes(32), room.keystore)
            own, script = OwnSecrets(seed, draft.sets), room.wallet.script
            half = Acceptance(
                proposal_id=Hash32(bytes.fromhex(name)), keys=own.verifier_keys(script),
                coins=chosen, change_script=script, cut=BY_HASH if by_hash else drawn_cut(own).commitment(),
            )  # fmt: skip
            made = Deal(proposal, half, id=wire.contract_id(proposal, half))  # terms that make no contract end here
            room.note_start(name)
            room.marks.put(DRAWN, made.id, True)
            room.files.put(name, "proposal", wire.encode_proposal(proposal))
            room.files.put(name, "acceptance", wire.encode_acceptance(half))
        return wire.encode_acceptance(half)

    def _coins(self, side: Side, draft: Draft) -> tuple[Coin, ...]:
        """Choose what a side brings, and see that it can pay for what it will have to send in time.

        Raises InsufficientFundsError, NotFoundError.
        """
        wallet, amount = self._room.wallet, Sats(max(draft.puts_in(side), DUST_P2TR))
        chosen = wallet.choose(amount, draft.rate)
        least = fee_for(max(SPARE_VSIZE, _digits_vsize(side, draft)), draft.rate) + DUST_P2TR
        change = sum(one.value for one in chosen) - amount
        others = [one.value for one in wallet.free() if one not in chosen]
        if max([change - least, *others]) < least:
            advice = "send one to the wallet: it pays for what must be sent in time"
            raise NotFoundError("coin", f"of {least:,} sats beside what is put in", advice)
        return chosen

    def _count_cut(self, name: str, identity: bytes) -> None:
        files, ledger = self._room.files, f"cuts/{identity.hex()}"
        if files.find_row(ledger, name) is not None:
            return
        for drawn, limit in ((files.count(ledger), MAX_CUTS), (files.count_all("cuts"), MAX_CUTS_IN_ALL)):
            if drawn >= limit:
                raise TooManyCutsError(identity.hex()[:16], drawn, limit)
        files.row(ledger, name, {"drawn_at_unix": int(self._room.clock())}, name)

    # ---- signing

    def sign(self, message: Json, *, identity_secret: bytes | None = None) -> Json | Transaction:
        """Answer any message of a contract that both sides know; the last one's answer is the opening, broadcast.

        identity_secret: the claimant's, which signs its first message. Raises InvalidInputError, WrongMessageError,
        OtherMessageError, WrongMandateError, OutsideMandateError, AttemptGoneError, CheatedError, WrongAdaptorError,
        WrongSignatureError.
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
        return steps[letter.kind](self._room.named(letter.contract), letter)

    def _commit(self, half: Acceptance, identity_secret: bytes | None) -> Json:
        room, name = self._room, half.proposal_id.hex()
        room.must_be(name, Side.CLAIMANT)
        if (before := room.said(name, "acceptance", wire.encode_acceptance(half), "commitments")) is not None:
            return before
        proposal = room.proposal(name)
        if identity_secret is None or secp256k1.public_key_xonly(identity_secret) != proposal.identity:
            raise InvalidInputError("identity", "is not the proposal's", "the identity that signed the proposal")
        check_contribution(Side.VERIFIER, contribution(half.coins, half.change_script))
        made = Deal(proposal, half, id=wire.contract_id(proposal, half))
        first = room.garbler(name, made).commitments()
        if not room.is_opened(name, made, first):
            room.check_new(name, proposal.draft)
            room.check_coins(half.coins)
            room.ask_of(name, made)
        with room.store.alone():
            room.files.put(name, "acceptance", wire.encode_acceptance(half))
            data = messages.encode_commitments(first)
            letter = wire.Letter(
                kind=wire.COMMITMENTS, contract=made.id, data=data,
                more=sign_first(made.subject, data, identity_secret, secrets.token_bytes(32)),
            )  # fmt: skip
            return room.say(name, "commitments", wire.encode_letter(letter))

    def _tell_cut(self, name: str, letter: wire.Letter) -> Json:
        room = self._room
        room.must_be(name, Side.VERIFIER)
        if (before := room.said(name, "commitments", wire.encode_letter(letter), "cut")) is not None:
            return before
        made = room.deal(name)
        check_first(made.subject, letter.data, made.proposal.identity, letter.more)
        first = messages.decode_commitments(made.subject, letter.data)
        check_commitments(made.subject, first)
        opened = room.is_opened(name, made, first)
        if not opened:
            room.check_new(name, made.proposal.draft)
        with room.store.alone():
            if not self._may_show(name, made, letter):
                # what it is can still be told, and so closed together; one shown to another is not gone
                if opened and room.marks.find(SHOWN, made.id) is None:
                    room.files.put(name, GONE, {"gone": True})
                    room.files.put(name, "commitments", wire.encode_letter(letter))
                raise AttemptGoneError(name)
            # by x: a point and its opposite have one secret
            room.files.row("faults", first.fault[1:].hex(), {"contract": name}, name)
            room.files.put(name, "commitments", wire.encode_letter(letter))
            data = messages.encode_cut(cut_of(made, room.own(name), first))
            return room.say(name, "cut", wire.encode_letter(wire.Letter(kind=wire.CUT, contract=made.id, data=data)))

    def _may_show(self, name: str, made: Deal, letter: wire.Letter) -> bool:
        """Note to which first message our cut is shown, ever; return whether it may be shown to this one."""
        files, marks = self._room.files, self._room.marks
        if files.find(name, GONE) is not None:
            return False
        if files.find(name, "commitments") is not None:  # this one, and what follows from it alone
            return True
        return marks.find(DRAWN, made.id) is not None and marks.put(SHOWN, made.id, sha256(letter.data).hex())

    def _open_copies(self, name: str, letter: wire.Letter) -> Json:
        room = self._room
        room.must_be(name, Side.CLAIMANT)
        if (before := room.said(name, "cut", wire.encode_letter(letter), "openings")) is not None:
            return before
        made = room.deal(name)
        cut = messages.decode_cut(made.subject, letter.data)
        check_cut(made.subject, cut, room.commitments(name, made))
        if not room.is_opened(name, made, room.commitments(name, made)):
            room.ask_of(name, made)
        with room.store.alone():
            room.files.put(name, "cut", wire.encode_letter(letter))
            garbler, own = room.garbler(name, made), room.own(name)
            _, graph = room.graph(name, made)
            silence = presign.presign_silence(graph, SilenceSecrets(silence=own.digits, both=own["both"]))
            reply = wire.Letter(
                kind=wire.OPENINGS, contract=made.id, data=messages.encode_openings(garbler.openings(cut)),
                more=messages.encode_silence(silence),
            )  # fmt: skip
            return room.say(name, "openings", wire.encode_letter(reply))

    def _presign(self, name: str, letter: wire.Letter) -> Json:
        room = self._room
        room.must_be(name, Side.VERIFIER)
        if (before := room.said(name, "openings", wire.encode_letter(letter), "claims")) is not None:
            return before
        if room.files.find(name, GONE) is not None:
            raise AttemptGoneError(name)
        made = room.deal(name)
        room.kept(name, made, letter)
        _, graph = room.graph(name, made)
        presign.check_silence(graph, messages.decode_silence(graph, letter.more))
        if not room.is_opened(name, made, room.commitments(name, made)):
            room.check_new(name, made.proposal.draft)
            room.ask_of(name, made)
        own = room.own(name)
        with room.store.alone():
            room.files.put(name, "openings", wire.encode_letter(letter))
            claims = presign.presign_claims(
                graph, ClaimSecrets(digits=own.digits, claim=own["claim"], both=own["both"])
            )  # fmt: skip
            reply = wire.Letter(kind=wire.CLAIMS, contract=made.id, data=messages.encode_claims(claims))
            return room.say(name, "claims", wire.encode_letter(reply))

    def _fund(self, name: str, letter: wire.Letter) -> Json | Transaction:
        room = self._room
        room.must_be(name, Side.CLAIMANT)
        if (before := room.said(name, "claims", wire.encode_letter(letter), "funding")) is not None:
            return before
        made = room.deal(name)
        opening, graph = room.graph(name, made)
        presign.check_claims(graph, messages.decode_claims(graph, letter.data))
        _, found = room.spends(name, graph)
        if found is not None:  # our folder is a copy from before we signed: the opening is a fact, and no coin is
            room.files.put(name, "claims", wire.encode_letter(letter))
            return found[0]
        room.check_new(name, made.proposal.draft)
        room.check_coins(made.acceptance.coins)
        room.show(Side.CLAIMANT, made.proposal.draft)
        with room.store.alone():
            if room.files.find(name, WITHDRAWN) is not None:
                raise WithdrawnError(name)
            room.ask_of(name, made)
            room.files.put(name, "claims", wire.encode_letter(letter))
            witnesses = sign_opening(opening, Side.CLAIMANT, room.wallet.by_script)
            reply = wire.FundingWitnesses(contract=made.id, witnesses=witnesses)
            return room.say(name, "funding", wire.encode_funding(reply))

    def _open(self, message: wire.FundingWitnesses) -> Transaction:
        room, name = self._room, self._room.named(message.contract)
        room.must_be(name, Side.VERIFIER)
        found = room.opening(name)
        if found is None:
            made = room.deal(name)
            if room.files.find(name, "claims") is None:
                raise StepOutOfOrderError(name, "the openings, and our own signatures of claims,")
            opening, graph = room.graph(name, made)
            _, mined = room.spends(name, graph)
            if mined is not None:
                return mined[0]
            room.check_new(name, made.proposal.draft)
            check_opening(opening, Side.CLAIMANT, message.witnesses)
            room.check_coins(made.proposal.coins)
            room.show(Side.VERIFIER, made.proposal.draft)
            with room.store.alone():
                if room.files.find(name, WITHDRAWN) is not None:
                    raise WithdrawnError(name)
                room.ask_of(name, made)
                room.files.put(name, "funding", wire.encode_funding(message))
                own = sign_opening(opening, Side.VERIFIER, room.wallet.by_script)
                found = complete_opening(opening, claimant=message.witnesses, verifier=own)
                room.files.put_transaction(name, "opening", found)  # before it is sent: a crash loses nothing
        room.node.send(found)
        return found

    # ---- taking back

    def withdraw(self, name: str) -> None:
        """Take a contract back of which no coin of ours was signed; ours are free. Raises StepOutOfOrderError."""
        with self._room.store.alone():
            if self._room.may_be_opened(name):
                raise StepOutOfOrderError(name, "our coins are signed: `btcfi dispute cancel` spends them")
            self._room.files.put(name, WITHDRAWN, {"at_unix": int(self._room.clock())})

    def cancel(self, name: str) -> Transaction:
        """Spend our coins of an opening that no block holds to ourselves.

        Raises StepOutOfOrderError, ConflictError where what waits would cost more to replace than half of our stake.
        Everything that was pre-signed is kept: until this is final the opening may be mined in its place.
        """
        room = self._room
        with room.store.alone():
            made, side = room.deal(name), room.files.side_of(name)
            opening, _ = room.graph(name, made)
            coins = (made.proposal if side is Side.CLAIMANT else made.acceptance).coins
            if None in room.node.unspent_many([one.outpoint for one in coins], include_pool=False):
                raise StepOutOfOrderError(name, "a block spent its coins: `btcfi dispute close`")
            value = sum(one.value for one in coins)
            size = vsize_of(OVERHEAD_WEIGHT + len(coins) * P2TR_INPUT_WEIGHT + P2TR_OUTPUT_WEIGHT)
            rate = choose_rate(asking_rate(room.node, REFUND_TARGET_BLOCKS), self._fees)
            # the opening's whole fee besides: it may have to replace it in the pool, with all that the other side put
            # on it; and so does a second one the first
            fee = Sats(sum(opening.fees.values()) + fee_for(size + opening.transaction.vsize, rate))
            waiting = {one.txid: one for one in waiting_on(room.node, [one.outpoint for one in coins]).values()}
            outbids = sum(one.outbid(size) for one in waiting.values())
            most = made.proposal.draft.puts_in(side) // 2  # else who pins it makes us burn what it likes
            if outbids > max(fee, most) and opening.transaction.txid in waiting:
                raise ConflictError(
                    f"dispute {name[:16]}: its opening waits with more on it than is paid to replace it, "
                    f"{outbids:,} sats of at most {most:,}; the blocks decide"
                )
            fee = Sats(max(fee, outbids))
            if value - fee < DUST_P2TR:
                raise InsufficientFundsError(available=Sats(value), needed=Sats(fee + DUST_P2TR))
            back = TxOut(value=Sats(value - fee), script=room.wallet.script)
            home = Transaction(
                version=2, inputs=tuple(TxIn(outpoint=one.outpoint, sequence=0xFFFFFFFD) for one in coins),
                outputs=(back,),
            )  # fmt: skip
            spent, keys = [one.output for one in coins], room.wallet.by_script
            for at, one in enumerate(spent):
                home = home.with_witness(at, [keys[one.script].sign_input(home, at, spent)])
            room.files.put_transaction(name, "home", home)
            room.node.send(home)
            return home

    def is_kept_back(self, made: Deal, opening: Transaction) -> bool:
        """Return whether our coins are to go home: no block holds the opening, its time is over or a price is known.

        The side that signs last would open it then only where it gains by it.
        """
        draft, known = made.proposal.draft, self._room.store.attestations()
        late = self._room.clock() >= draft.valid_until + UNSENT_SECONDS and not self.waits(opening)
        return late or any((one.event.id, one.oracle_key) in known for event in draft.events for one in event)

    def waits(self, transaction: Transaction) -> bool:
        """Return whether our node's pool has a transaction."""
        try:
            self._room.node.pool_entry(transaction.txid)
        except NotFoundError:
            return False
        return True


def _check_oracles(draft: Draft) -> None:
    """Check that every announcement is sound, and its oracle's own. Raises WrongAnnouncementError."""
    for event in draft.events:
        check_oracles(event, event[0].event, SetupPolicy())


def _digits_vsize(side: Side, draft: Draft) -> int:
    """Return what a side's largest transaction has with its child, at most: digits and signatures are what is long.

    The claimant shows two signatures a priced digit, in a claim or in the answer to a challenge; the verifier one, in a
    claim of silence.
    """
    priced = sum(digit.event is not None for digit in draft.payoff.claim(len(draft.events)).circuit.digits)
    signatures = 1 + priced * (2 if side is Side.CLAIMANT else 1)
    return vsize_of(signatures * _SIGNATURE_WEIGHT) + _BESIDE_VSIZE


def _check_bond(draft: Draft) -> None:
    """Refuse to propose a bond that is less than what the answer costs: who challenges needlessly pays for it."""
    least = fee_for(_digits_vsize(Side.CLAIMANT, draft), draft.rate)
    if 0 < draft.challenge_bond < least:
        expected = f"{least} sats, what an answer to a challenge costs at the opening's rate, or none"
        raise InvalidInputError("challenge_bond", f"{draft.challenge_bond} sats", expected)
