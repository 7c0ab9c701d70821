"""What a contract settles on is a term: its event says the same, its mandate allows it, and its owner reads it."""

from dataclasses import replace

import pytest

from btcfi.contracts import setup
from btcfi.contracts.explain import Messages, fixing_in_words, verified
from btcfi.contracts.mandate import (
    Bounds,
    OutsideMandateError,
    check_event,
    check_mandate,
    decode_mandate,
    decode_signed_mandate,
    encode_mandate,
    encode_signed_mandate,
    sign_mandate,
)
from btcfi.contracts.mandate_drafts import CAREFUL_FIXINGS, careful_mandate
from btcfi.contracts.messages import (
    Role,
    decode_announcement,
    decode_offer,
    encode_announcement,
    encode_offer,
)
from btcfi.contracts.payouts import decode_terms, encode_terms
from btcfi.contracts.settle import complete_cet
from btcfi.contracts.summary import summary_of
from btcfi.errors import InvalidInputError
from btcfi.oracle.announcement import PriceRounding, announce
from btcfi.oracle.fixing import MINUTE, parse_fixing
from btcfi.secp256k1 import public_key_xonly
from btcfi.surfaces.party import screen
from btcfi.units import CentsPerBtc, Hash32, Slot, UnixSeconds
from tests.support.contracts import COARSE, ORACLES, Scene, event, option_terms
from tests.support.mandates import IDENTITY, IDENTITY_SECRET, authority, mandate

TWAP, MEDIAN = parse_fixing("twap:30"), parse_fixing("median:30")
OLD = event()
NEW = replace(OLD, version=2, fixing=TWAP)
EXPIRY = OLD.expiry


def option(fixing):
    return replace(option_terms(OLD), fixing=fixing)


def scene(fixing=TWAP, about=None, **changes):
    """A contract on an event of version 2."""
    about = about or replace(OLD, version=2, fixing=fixing)
    return Scene(event=about, option=encode_terms(option(fixing)), **changes)


# ---- the event's fixing is the option's


@pytest.mark.parametrize(
    ("fixing", "about", "field"),
    [
        (None, OLD, ""),
        (TWAP, NEW, ""),
        (MINUTE, replace(OLD, version=2), ""),
        (MEDIAN, replace(NEW, fixing=MEDIAN), ""),
        (None, NEW, "event.version"),
        (None, replace(OLD, version=2), "event.version"),
        (TWAP, OLD, "event.version"),
        (MINUTE, OLD, "event.version"),
        (TWAP, replace(NEW, fixing=MEDIAN), "event.fixing"),
        (TWAP, replace(NEW, fixing=parse_fixing("twap:29")), "event.fixing"),
        (MINUTE, NEW, "event.fixing"),
        (TWAP, replace(OLD, version=2), "event.fixing"),
    ],
)
def test_an_event_settles_an_option_on_the_fixing_that_it_names_and_an_earlier_release_s_on_its_minute(
    fixing, about, field
):
    if not field:
        check_event(option(fixing), about)
        return
    with pytest.raises(InvalidInputError) as refused:
        check_event(option(fixing), about)
    assert refused.value.field == field


@pytest.mark.parametrize(("fixing", "about"), [(TWAP, OLD), (None, NEW), (TWAP, replace(NEW, fixing=MEDIAN))])
def test_an_offer_whose_event_says_another_fixing_than_its_option_is_signed_by_neither_side(fixing, about):
    made = Scene(event=about, option=encode_terms(option(fixing)))
    for role in Role:
        with pytest.raises(InvalidInputError, match=r"event\.(version|fixing)"):
            made.authority().check_contract(made.terms, role)
    offer, agreement = made.offer(), made.agreement()
    with pytest.raises(InvalidInputError, match=r"event\.(version|fixing)"):
        setup.accept(offer, agreement, *made.side(Role.BUYER)[:2], authority=made.authority())


def test_a_contract_on_a_window_is_set_up_and_settles_at_the_nearest_dollar():
    made = scene(oracles=3, threshold=2)
    agreement, accepted, signed, _ = made.run()
    exact, below = CentsPerBtc(12_500_050), CentsPerBtc(12_500_049)
    assert [made.event.outcome(price) for price in (exact, below)] == [125_001, 125_000]
    cet = complete_cet(
        agreement.plan, buyer=accepted.presignatures, seller=signed.presignatures,
        attestations=made.attestations(exact)[:2],
    )  # fmt: skip
    assert cet.outcome == 125_001


# ---- messages


def test_an_offer_of_a_window_is_read_as_it_was_written_and_one_of_an_earlier_release_keeps_its_bytes_and_id():
    for made in (scene(), scene(MINUTE), Scene()):
        offer = made.offer()
        assert decode_offer(encode_offer(offer)) == offer
        assert decode_offer(encode_offer(offer)).id == offer.id
    old = encode_offer(Scene().offer())
    assert "fixing" not in old["option"]
    assert {"version", "fixing"}.isdisjoint(old["oracles"][0]["event"])
    assert len({made.event.id for made in (scene(), scene(MINUTE), scene(MEDIAN), Scene())}) == 4


def test_an_event_says_version_and_fixing_together_or_neither():
    new, old = encode_announcement(announce(ORACLES[0], NEW)), encode_announcement(announce(ORACLES[0], OLD))
    assert new["event"]["version"] == 2
    assert new["event"]["fixing"] == "twap:30"
    for whole, changes, lacks, field in (
        (new, {}, "fixing", "oracle.event.fixing"),
        (new, {"fixing": "twap:030"}, "", "oracle.event.fixing"),
        (new, {"fixing": "vwap:30"}, "", "oracle.event.fixing"),
        (new, {"fixing": 30}, "", "oracle.event.fixing"),
        (new, {"version": 4}, "", "oracle.event.path"),
        (new, {"version": 5}, "", "oracle.event.version"),
        (new, {"version": True}, "", "oracle.event.version"),
        (old, {"version": 1}, "", "oracle.event.version"),
    ):
        changed = {**whole, "event": {k: v for k, v in {**whole["event"], **changes}.items() if k != lacks}}
        with pytest.raises(InvalidInputError) as refused:
            decode_announcement(changed)
        assert refused.value.field == field
    for lacking in ({"version"}, set()):
        changed = {k: v for k, v in new["event"].items() if k not in lacking} | ({} if lacking else {"version": 1})
        with pytest.raises(InvalidInputError):
            decode_announcement({**new, "event": changed})


def test_an_option_s_terms_name_their_fixing_in_its_one_spelling_or_none():
    for fixing in (None, MINUTE, TWAP, MEDIAN):
        terms = option(fixing)
        assert decode_terms(encode_terms(terms)) == terms
    for wrong in ("", "minute:1", "twap", "twap:1", "twap:61", "TWAP:30", " twap:30", 30, None, ["twap:30"]):
        with pytest.raises(InvalidInputError) as refused:
            decode_terms(encode_terms(option(TWAP)) | {"fixing": wrong})
        assert refused.value.field == "offer.option.fixing"


def test_an_option_without_a_fixing_has_no_room_for_a_field_that_nobody_knows():
    with pytest.raises(InvalidInputError) as refused:
        decode_terms(encode_terms(option(None)) | {"later": 1})
    assert refused.value.field == "offer.option.later"


# ---- mandates


def test_a_mandate_that_names_fixings_allows_no_other_and_one_that_names_none_allows_any():
    for fixing in (TWAP, MINUTE):
        made = scene(fixing)
        for allowed in ((), (fixing,), (MEDIAN, fixing)):
            made.authority(fixings=allowed).check_contract(made.terms, Role.BUYER)
        with pytest.raises(OutsideMandateError) as refused:
            made.authority(fixings=(MEDIAN,)).check_contract(made.terms, Role.BUYER)
        assert refused.value.field == "option.fixing"
        assert "median:30" in refused.value.expected
    old = Scene()
    old.authority(fixings=(MINUTE,)).check_contract(old.terms, Role.BUYER)
    with pytest.raises(OutsideMandateError):
        old.authority(fixings=(TWAP,)).check_contract(old.terms, Role.BUYER)


def test_a_mandate_of_an_earlier_release_says_nothing_of_fixings_and_its_signature_holds():
    old = mandate()
    assert "fixings" not in encode_mandate(old)
    signed = sign_mandate(old, IDENTITY_SECRET)
    check_mandate(decode_signed_mandate(encode_signed_mandate(signed)), IDENTITY)
    spelled = decode_signed_mandate(encode_signed_mandate(signed) | {"fixings": []})
    assert spelled == signed
    narrow = mandate(fixings=(TWAP, MINUTE))
    assert encode_mandate(narrow)["fixings"] == ["twap:30", "minute"]
    assert decode_mandate(encode_mandate(narrow)) == narrow
    stripped = {k: v for k, v in encode_signed_mandate(sign_mandate(narrow, IDENTITY_SECRET)).items() if k != "fixings"}
    with pytest.raises(Exception, match="signature"):
        check_mandate(decode_signed_mandate(stripped), IDENTITY)
    for wrong in (["twap:1"], ["minute", "minute"], "minute", [1]):
        with pytest.raises(InvalidInputError) as refused:
            decode_mandate(encode_mandate(old) | {"fixings": wrong})
        assert "fixings" in refused.value.field


def test_a_careful_draft_names_what_it_allows():
    draft = careful_mandate(
        number=1, now=UnixSeconds(1_740_000_000), network="regtest", roles=list(Role), programs=[Hash32(bytes(32))],
        oracle_keys=[public_key_xonly(ORACLES[0])], threshold=1,
    )  # fmt: skip
    assert draft.fixings == CAREFUL_FIXINGS
    assert "fixings                  twap:30, minute" in screen.mandate_screen(encode_mandate(draft), None)
    assert "fixings                  any" in screen.mandate_screen(encode_mandate(mandate()), None)
    before = sign_mandate(mandate(), IDENTITY_SECRET)
    assert "(was any)" in screen.mandate_screen(encode_mandate(draft), before)


# ---- a life shorter than the window


def test_nobody_signs_a_contract_whose_window_has_begun_unless_it_settles_on_a_minute():
    begins = Slot(EXPIRY - 29 * 60)
    life = Bounds(least=0, most=10_000_000)
    made, minute = scene(), scene(MINUTE)
    for now, allowed in ((begins - 60, True), (begins, True), (begins + 1, False), (EXPIRY - 1, False)):
        for clock in (0, now):  # the chain's clock is behind: the machine's counts, too
            right = authority(oracles=ORACLES[:1], now=now if not clock else begins - 3_600, life=life)
            right = replace(right, situation=replace(right.situation, clock=UnixSeconds(clock)))
            right.check_contract(minute.terms, Role.BUYER)
            if allowed:
                right.check_contract(made.terms, Role.BUYER)
                continue
            with pytest.raises(InvalidInputError, match="the window of twap:30 began") as refused:
                right.check_contract(made.terms, Role.BUYER)
            assert refused.value.field == "option.expiry_unix"


def test_a_simulation_s_mandate_lets_expiries_be_past_and_asks_no_clock():
    made = scene()
    made.authority(now=EXPIRY + 86_400).check_contract(made.terms, Role.BUYER)


# ---- in words


@pytest.mark.parametrize(
    ("fixing", "rounding", "words"),
    [
        ("twap:30", PriceRounding.NEAREST, "mean of the 30 minutes up to 2025-02-19 21:20 UTC, nearest dollar"),
        ("median:5", PriceRounding.NEAREST, "median of the 5 minutes up to 2025-02-19 21:20 UTC, nearest dollar"),
        ("minute", PriceRounding.NEAREST, "price of 2025-02-19 21:20 UTC, nearest dollar"),
        ("minute", PriceRounding.DOWN, "price of 2025-02-19 21:20 UTC, whole dollars, down"),
    ],
)
def test_a_fixing_is_said_in_words(fixing, rounding, words):
    assert fixing_in_words(parse_fixing(fixing), EXPIRY, rounding) == words


def test_an_owner_reads_what_settles_a_contract_before_it_signs():
    for made, words in (
        (scene(), "mean of the 30 minutes up to 2025-02-19 21:20 UTC, nearest dollar"),
        (scene(MINUTE), "price of 2025-02-19 21:20 UTC, nearest dollar"),
        (Scene(), "price of 2025-02-19 21:20 UTC, whole dollars, down"),
    ):
        text = screen.contract_screen(summary_of(made.agreement(), Role.BUYER, mandate=7))
        assert f"settled at               {words}" in text


def test_a_contract_in_plain_words_says_its_window_what_it_needs_of_it_and_how_it_is_rounded():
    made = scene(oracles=3, threshold=2, tolerance=COARSE)
    offer, (_, accept, sign, _) = made.offer(), made.run()
    found = verified(Messages(offer=offer, accept=accept, sign=sign), made.payouts, announcements=made.announcements)
    words = "\n".join(line for section in found.sections for line in section.lines)
    assert found.title.endswith("BTC-USD, mean of the 30 minutes up to 2025-02-19 21:20 UTC, nearest dollar")
    for part in (
        "the 30 minutes from 2025-02-19 20:51 UTC on", "needs 20 of them", "rounded to the nearest one",
        "attested the mean of the 30 minutes",
    ):  # fmt: skip
        assert part in words, part
    old = Scene(oracles=3, threshold=2, tolerance=COARSE)
    _, accept, sign, _ = old.run()
    found = verified(Messages(offer=old.offer(), accept=accept, sign=sign), old.payouts)
    words = "\n".join(line for section in found.sections for line in section.lines)
    assert "rounded down before it is attested" in words
    assert "The window" not in words


# ---- an American option


@pytest.mark.parametrize("role", list(Role))
def test_neither_side_signs_an_american_option_on_a_window(role):
    made = scene()
    allowed = made.authority(american=True)
    allowed.check_contract(made.terms, role)
    american = replace(made.terms, option=encode_terms(replace(option(TWAP), american=True)))
    with pytest.raises(InvalidInputError, match="of an American option; expected minute") as e:
        allowed.check_contract(american, role)
    assert e.value.field == "fixing"
