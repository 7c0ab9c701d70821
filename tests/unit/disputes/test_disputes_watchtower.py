"""A set-up in a file and a package for watchers: a stranger checks all of them, and no byte changed passes."""

import json
import random
from dataclasses import replace

import pytest

from btcfi import secp256k1
from btcfi.bitcoin import taproot
from btcfi.bitcoin.adaptor import WrongAdaptorError
from btcfi.bitcoin.fees import DUST_P2TR, SatsPerKvb
from btcfi.bitcoin.musig import SecretNonce, WrongPartialError
from btcfi.contracts.setup import WrongMessageError
from btcfi.disputes.claims import Ranges
from btcfi.disputes.garbled import messages, transcript, watchtower
from btcfi.disputes.garbled.deal import sign_first
from btcfi.disputes.garbled.graph import last_of
from btcfi.disputes.garbled.opening import Side
from btcfi.disputes.garbled.presign import build_claim
from btcfi.disputes.garbled.setup import CheatedError, Verdict, cut_by_hash
from btcfi.errors import BtcfiError, InvalidInputError
from btcfi.units import Sats
from tests.support.dispute_played import Played
from tests.support.disputing import secret

REWARD = Sats(20_000)
FEW = Ranges(starts=(0, 60_000, 70_000), payouts=(Sats(0), Sats(5_000_000), Sats(10_000_000)))


@pytest.fixture(scope="module")
def played():
    return Played(ranges=FEW)


@pytest.fixture(scope="module")
def drawn():
    return Played(ranges=FEW, by_hash=False, attempt=1)


@pytest.fixture(scope="module")
def package(played):
    return played.package(REWARD)


def check(said):
    return transcript.check(said, coins=secret("coins"))


# ---- set-ups


def test_a_set_up_in_a_file_is_checked_by_who_has_nothing_else(played):
    text = json.dumps(transcript.encode_transcript(played.transcript()))
    said = transcript.decode_transcript(json.loads(text))
    checked = transcript.check_public(said, coins=secret("coins"))
    assert checked.deal.terms.id == played.deal.terms.id
    assert checked.commitments == played.first
    assert sorted(checked.kept.tables) == [one for one in range(1, 105) if one not in played.cut.opened]


def test_a_cut_that_the_verifier_drew_tells_a_stranger_nothing(drawn):
    assert check(drawn.transcript()).commitments == drawn.first
    with pytest.raises(InvalidInputError, match="the verifier drew it"):
        transcript.check_public(drawn.transcript(), coins=secret("coins"))


def test_a_claimant_that_signs_another_set_up_is_caught_by_a_stranger(played):
    """With the cut that follows from what it says, as a cheat would send it."""
    copies = (*played.first.copies[:-1], played.first.copies[0])
    first = replace(played.first, copies=copies)
    cut = cut_by_hash(played.deal.subject, first)
    opened, kept = dict(played.second.opened), dict(played.second.kept)
    garbler = played.garbler
    second = replace(
        played.second, opened={copy: garbler._opened[copy] for copy in cut.opened},
        kept={copy: (kept | {one: next(iter(kept.values())) for one in opened})[copy]
              for copy in range(1, 105) if copy not in cut.opened},
    )  # fmt: skip
    with pytest.raises(CheatedError):
        check(played.transcript(first=first, cut=cut, second=second))
    with pytest.raises(CheatedError, match="hash of the first message"):
        check(played.transcript(first=first))


def test_what_another_signed_or_another_accepted_is_refused(played, drawn):
    said = played.transcript()
    for other in (
        replace(said, signature=bytes(64)), replace(said, signature=drawn.transcript().signature),
        replace(said, commitments=said.commitments[:-1] + bytes([said.commitments[-1] ^ 1])),
        replace(said, proposal=replace(said.proposal, signature=bytes(64))),
    ):  # fmt: skip
        with pytest.raises(WrongMessageError):
            check(other)
    with pytest.raises(InvalidInputError, match="another proposal"):
        check(replace(said, acceptance=drawn.acceptance))


# ---- packages


def test_a_package_in_a_file_is_checked_and_its_disproofs_are_the_contract_s(played, package):
    text = json.dumps(watchtower.encode_package(package))
    watch = watchtower.check_package(watchtower.decode_package(json.loads(text)), coins=secret("coins"))
    assert watch.graph.coin == played.graph.coin
    fault = played.garbler._values[0][-1].to_bytes(32)
    for number, silent in watchtower.ranges(watch.graph):
        made = watchtower.finish_disproof(watch.graph, REWARD, watch.disproofs, (number, silent), fault=fault)
        escrow, value = last_of(watch.graph.claim(number, silent=silent))
        assert made.inputs[0].outpoint == escrow
        assert sum(one.value for one in made.outputs) == value.value - watch.graph.terms.fee
        # what the claim paid already and this: all that the verifier could be owed, at least
        assert made.outputs[0].value + FEW.payouts[number] >= watch.graph.terms.collateral


@pytest.mark.parametrize("silent", [False, True])
def test_every_range_that_is_claimed_falsely_is_convicted_by_the_package_and_the_right_one_is_not(package, silent):
    """At prices on both sides of each bound; the finished signature is the escrow's, over what the package says."""
    played, watch = Played(ranges=FEW), watchtower.check_package(package, coins=secret("coins"))
    for spot, right in ((0, 0), (59_999, 0), (60_000, 1), (69_999, 1), (70_000, 2), ((1 << 18) - 1, 2)):
        for number in range(3):
            claim = build_claim(
                played.graph, played.claims, played.garbler, number=number, attested=played.attested(spot),
                claim=played.p["claim"], silent=silent,
            )  # fmt: skip
            found = watchtower.judge(watch, claim)
            assert found.verdict is (Verdict.RIGHT if number == right else Verdict.CONVICTED)
            if number != right:
                made = watchtower.finish_disproof(
                    watch.graph, REWARD, watch.disproofs, (number, silent), fault=found.secret
                )  # fmt: skip
                coin, value = last_of(claim)
                assert made.inputs[0].outpoint == coin
                (signature,) = made.inputs[0].witness
                assert secp256k1.schnorr_verify(value.script[2:], taproot.sighash(made, 0, [value]), signature)


def test_no_secret_of_the_verifier_is_in_its_package(played, package):
    text = json.dumps(watchtower.encode_package(package))
    raw = b"".join(
        [package.claims, package.disproofs, package.setup.commitments, package.setup.cut, package.setup.openings]
    )  # fmt: skip
    own = [*played.v._of.values(), *played.v.digits, played.seeds[Side.VERIFIER], played.keys[Side.VERIFIER].secret]
    own += [played.p[use] for use in ("claim", "both", "payout", "open")] + [played.p.drawn("garbler")]
    for one in own:
        for said in (one, secp256k1.scalar_negate(one)):
            assert said not in raw
            assert said.hex() not in text
    assert played.garbler._values[0][-1].to_bytes(32) not in raw  # nor the claimant's fault
    # the control: what is in it is found
    assert package.disproofs[66:98] in raw


def test_the_verifier_s_half_alone_spends_nothing_and_no_other_secret_finishes_it(played, package):
    graph = played.graph
    for other in (secret("guess"), played.garbler.label(0, 0), played.v["escrow"]):
        with pytest.raises(InvalidInputError):
            watchtower.finish_disproof(graph, REWARD, package.disproofs, (0, False), fault=other)
    fault = played.garbler._values[0][-1].to_bytes(32)
    moved = package.disproofs[98:196] + package.disproofs[98:]
    with pytest.raises(WrongPartialError):  # the half of one range's disproof for another's
        watchtower.finish_disproof(graph, REWARD, moved, (0, False), fault=fault)
    with pytest.raises(WrongPartialError):  # or for another reward
        watchtower.finish_disproof(graph, Sats(REWARD + 1), package.disproofs, (0, False), fault=fault)


def test_two_packages_of_one_contract_share_no_nonce(played):
    one, other = played.package(REWARD), played.package(Sats(REWARD + 1_000))
    nonces = [data[at : at + 66] for data in (one.disproofs, other.disproofs) for at in range(0, len(data), 98)]
    assert len(set(nonces)) == len(nonces)


def test_what_a_package_maker_withholds_or_changes_is_refused_before_anybody_relies_on_it(played, drawn, package):
    claims, halves = package.claims, package.disproofs
    foreign = drawn.package(REWARD)
    lies = {
        "a half short": replace(package, disproofs=halves[:-98]),
        "a half's byte": replace(package, disproofs=halves[:-1] + bytes([halves[-1] ^ 1])),
        "halves exchanged": replace(package, disproofs=halves[98:196] + halves[:98] + halves[196:]),
        "another reward": replace(package, reward=Sats(REWARD + 1)),
        "no reward": replace(package, reward=Sats(0)),
        "all of the bond": replace(package, reward=Sats(played.bond)),
        "a claim's signature": replace(package, claims=bytes([claims[0] ^ 1]) + claims[1:]),
        "a digit's signature": replace(package, claims=claims[:20_000] + bytes(65) + claims[20_065:]),
        "claims withheld": replace(package, claims=b""),
        "another's halves": replace(package, disproofs=foreign.disproofs),
        "another's claims": replace(package, claims=foreign.claims),
        "another's set-up": replace(package, setup=foreign.setup),
        "tables withheld": replace(package, setup=replace(package.setup, openings=b"")),
    }
    passed = []
    for what, lie in lies.items():
        try:
            watchtower.check_package(lie, coins=secret("coins"))
        except (InvalidInputError, WrongAdaptorError):
            continue
        passed.append(what)
    assert passed == []


def test_a_package_of_a_drawn_cut_is_as_good_to_who_watches(drawn):
    """The verifier that drew it is the one that a bad set-up would rob."""
    assert watchtower.check_package(drawn.package(REWARD), coins=secret("coins")).reward == REWARD


# ---- the reward


def test_the_reward_pays_the_pair_up_to_a_rate_that_is_told_and_no_further(played, package):
    fault = played.garbler._values[0][-1].to_bytes(32)
    made = watchtower.finish_disproof(played.graph, REWARD, package.disproofs, (1, False), fault=fault)
    script = played.keys[Side.CLAIMANT].script
    limit = watchtower.highest_rate(made, fee=Sats(400), script=script)
    last = watchtower.child(made, fee=Sats(400), rate=limit, script=script)
    assert made.vsize == 124
    assert last.vsize == 94
    assert DUST_P2TR <= last.outputs[0].value < DUST_P2TR + 2
    assert 90_000 < limit < 93_000
    with pytest.raises(InvalidInputError, match=f"at most {limit}"):
        watchtower.child(made, fee=Sats(400), rate=SatsPerKvb(limit + 10), script=script)
    cheap = watchtower.child(made, fee=Sats(400), rate=SatsPerKvb(1_000), script=script)
    assert REWARD - cheap.outputs[0].value == 94  # by itself it pays the least that relays


def test_a_nonce_in_the_open_signs_once_and_for_its_own_key(played):
    nonce = SecretNonce.in_the_open(played.first.fault)
    assert nonce.public == 2 * secp256k1.public_key_compressed((1).to_bytes(32))
    with pytest.raises(InvalidInputError):
        SecretNonce.in_the_open(bytes(33))


# ---- any bytes


def mutated(text, dice):
    """A JSON text changed at one place: a sign, a piece cut out or said twice, a value of another kind."""
    at = dice.randrange(len(text))
    kind = dice.randrange(5)
    if kind == 0:
        return text[:at] + dice.choice('0123456789abcdefAZ"{}[],:-.') + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + dice.randrange(1, 200) :]
    if kind == 2:
        return text[:at] + text[at : at + 40] + text[at:]
    if kind == 3:
        return text[:at]
    value = json.loads(text)
    room = value
    while True:
        key = dice.choice(list(room) if isinstance(room, dict) else range(len(room)))
        inner = room[key]
        if not isinstance(inner, dict | list) or not inner or dice.random() < 0.2:
            break
        room = inner
    room[key] = dice.choice([None, 0, -1, 1 << 70, 1.5, "", "00", [], {}, True, [[]], "ff" * 32, 5_000])
    return json.dumps(value)


@pytest.mark.parametrize(
    ("seed", "changes"), [(0, 80), *(pytest.param(seed, 1_000, marks=pytest.mark.slow) for seed in range(1, 11))]
)
def test_any_bytes_end_with_a_refusal(package, seed, changes):
    text, dice = json.dumps(watchtower.encode_package(package)), random.Random(seed)
    # half of the changes outside of the long texts, where the fields are
    short = json.dumps(watchtower.encode_package(replace(
        package, claims=b"", disproofs=b"", setup=replace(package.setup, commitments=b"", cut=b"", openings=b"")
    )))  # fmt: skip
    seen = set()
    for number in range(changes):
        changed = mutated(short if number % 20 else text, dice)
        try:
            found = json.loads(changed)
        except ValueError:
            continue
        for read, verify in (
            (watchtower.decode_package, watchtower.check_package), (transcript.decode_transcript, transcript.check)
        ):  # fmt: skip
            document = found if read is watchtower.decode_package or not isinstance(found, dict) else found.get("setup")
            try:
                verify(read(document), coins=secret("coins"))
            except BtcfiError as e:
                seen.add(type(e))
            else:
                assert number % 20 == 0  # what is not a change of a value, such as a space
    assert InvalidInputError in seen


def test_a_claimant_that_signs_garbage_ends_with_a_refusal(played):
    dice, said = random.Random(5), played.transcript()
    data = messages.encode_commitments(played.first)
    for number in range(40):
        at = dice.randrange(len(data))
        garbage = data[:at] + dice.randbytes(dice.choice([1, 33, 500])) + data[at + 33 :]
        garbage = (garbage + bytes(1_000))[: len(data)] if number % 4 else garbage
        signed = replace(
            said, commitments=garbage,
            signature=sign_first(played.deal.subject, garbage, played.identity, secret("aux")),
            cut=dice.randbytes(len(said.cut)) if number % 3 else said.cut,
        )  # fmt: skip
        with pytest.raises(InvalidInputError):
            check(signed)
