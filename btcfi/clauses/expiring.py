"""Options around a bet: until the holder strikes, the money waits; after the timeout it goes back.

Two forms. In ``ExpiringOption`` both have paid in and each gets its part back. In ``UnderFundedExpiringOption`` the
writer alone has, and the holder pays its part in to strike. In the published code anybody can strike the second form:
its ``strikes`` has no guard. Here the holder's key guards it, as it guards the first one's, and the coin that is paid
in is the holder's. Source: Rubin (2021), ``ExpiringOption``, ``UnderFundedExpiringOption``.

Without OP_CHECKTEMPLATEVERIFY the coin that is paid in has to be named when the option is made: the transactions below
the strike are signed then, and their ids hang on it. It stays the holder's own; who spends it elsewhere can't strike.

After the timeout both ways are open, and the first one in a block counts: strike before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from btcfi.bitcoin.transaction import TxOut
from btcfi.bitcoin.wallet import Coin
from btcfi.clauses.bet import GenericBet
from btcfi.clauses.clause import After, Key
from btcfi.clauses.contract import Way
from btcfi.errors import InvalidInputError
from btcfi.units import Sats


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiringOption:
    """An option that both parties have funded."""

    party_one: Sats
    """The writer's part."""
    party_two: Sats
    """The holder's."""
    script_one: bytes
    """Where the writer's part goes back to."""
    script_two: bytes
    holder: bytes
    """x-only key whose signature strikes, used for nothing else."""
    opt: GenericBet
    """What a strike opens; it holds both parts, and its no-show waits for its delay after the strike, too."""
    timeout: int
    """A height, or seconds since 1970 from 500,000,000 on."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless both parts are what the bet holds."""
        _check(self.party_one, self.party_two, self.opt)

    @property
    def amount(self) -> Sats:
        """Both parts."""
        return Sats(self.party_one + self.party_two)

    @property
    def locked_by_holder(self) -> Sats:
        """What the holder can't use until it ends."""
        return self.party_two

    def ways(self) -> tuple[Way, ...]:
        """Return the strike and the expiry."""
        back = ((self.party_one, self.script_one), (self.party_two, self.script_two))
        pays = tuple(TxOut(value=value, script=script) for value, script in back if value)
        return (
            Way(name="strikes", guard=Key(self.holder), into=_entered(self.opt)),
            Way(name="expires", guard=After(self.timeout), pays=pays),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderFundedExpiringOption:
    """An option that the writer alone has funded; the holder pays in to strike."""

    party_one: Sats
    party_two: Sats
    script_one: bytes
    holder: bytes
    opt: GenericBet
    timeout: int
    pay_in: Coin
    """The holder's coin of exactly its part, named now, spent at the strike."""

    def __post_init__(self) -> None:
        """Raise InvalidInputError unless both parts are what the bet holds, and the coin is the holder's part."""
        _check(self.party_one, self.party_two, self.opt)
        if self.pay_in.value != self.party_two:
            raise InvalidInputError("pay in", f"{self.pay_in.value} sats", f"a coin of {self.party_two} sats")

    @property
    def amount(self) -> Sats:
        """The writer's part alone."""
        return self.party_one

    @property
    def locked_by_holder(self) -> Sats:
        """Nothing: the coin stays the holder's to spend, which costs the right to strike."""
        return Sats(0)

    def ways(self) -> tuple[Way, ...]:
        """Return the strike and the expiry."""
        back = TxOut(value=self.party_one, script=self.script_one)
        return (
            Way(name="strikes", guard=Key(self.holder), into=_entered(self.opt), pay_in=self.pay_in),
            Way(name="expires", guard=After(self.timeout), pays=(back,)),
        )


def _entered(opt: GenericBet) -> GenericBet:
    """Return the bet as one that a transaction led into: who strikes late has the no-show's delay like at each step."""
    return replace(opt, inner=True)


def _check(one: Sats, two: Sats, opt: GenericBet) -> None:
    if min(one, two) < 0 or one + two != opt.amount:
        raise InvalidInputError("parts", f"{one} and {two} sats", f"parts of the {opt.amount} sats that the bet holds")
