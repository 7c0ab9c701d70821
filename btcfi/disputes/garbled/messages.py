"""The messages of a set-up and of what is signed before an opening, as bytes: lengths follow from what both sides know.

Nothing in a message says how long it is or what it is about, so there is one form for each and nothing to disagree on;
a message of another length is refused before it is looked at. What is in it is checked by ``setup`` and ``presign``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from btcfi.bitcoin.adaptor import ADAPTOR_SIZE
from btcfi.disputes.garbled.chains import SIGNATURE_SIZE, count_of
from btcfi.disputes.garbled.garbling import SHARE_SIZE, table_size
from btcfi.disputes.garbled.graph import Graph
from btcfi.disputes.garbled.presign import ClaimPresignatures, SilencePresignatures
from btcfi.disputes.garbled.setup import POINT_SIZE, Commitments, Cut, Opened, Openings, Subject, Table
from btcfi.errors import InvalidInputError
from btcfi.units import Hash32

_COPY_SIZE: Final = 2
_NONCE_SIZE: Final = 32


def encode_cut(cut: Cut) -> bytes:
    """Return the nonce, then each opened copy's number."""
    return cut.nonce + b"".join(copy.to_bytes(_COPY_SIZE, "little") for copy in cut.opened)


def decode_cut(subject: Subject, data: bytes) -> Cut:
    """Return the cut. Raises InvalidInputError for another length; ``setup.check_cut`` says whether it is the one."""
    nonce, *copies = _parts("cut", data, [_NONCE_SIZE] + [_COPY_SIZE] * subject.copies.opened)
    return Cut(opened=tuple(int.from_bytes(one, "little") for one in copies), nonce=nonce)


def encode_commitments(said: Commitments) -> bytes:
    """Return the points, row by row, then the copies' hashes."""
    return b"".join([*(point for row in said.points for point in row), *said.copies])


def decode_commitments(subject: Subject, data: bytes) -> Commitments:
    """Return the garbler's first message. Raises InvalidInputError for another length."""
    width, rows = subject.secrets, subject.copies.opened + 1
    parts = list(_parts("commitments", data, commitments_sizes(subject)))
    points = tuple(tuple(parts[width * row : width * (row + 1)]) for row in range(rows))
    return Commitments(points=points, copies=tuple(Hash32(one) for one in parts[width * rows :]))


def commitments_sizes(subject: Subject) -> list[int]:
    """Return the bytes of each of its parts: what the message weighs before it is made."""
    points = subject.secrets * (subject.copies.opened + 1)
    return [POINT_SIZE] * points + [SHARE_SIZE] * subject.copies.count


def encode_openings(said: Openings) -> bytes:
    """Return the opened copies' seeds and shares, then the kept ones' hashes and tables, each in order."""
    opened = [one.seed + b"".join(one.shares) for _, one in sorted(said.opened.items())]
    return b"".join(opened + [one.opening + one.rows for _, one in sorted(said.kept.items())])


def decode_openings(subject: Subject, cut: Cut, data: bytes) -> Openings:
    """Return the garbler's second message, the answer to a cut. Raises InvalidInputError for another length or cut."""
    kept = [copy for copy in range(1, subject.copies.count + 1) if copy not in set(cut.opened)]
    if len(cut.opened) != subject.copies.opened or len(kept) != subject.copies.count - subject.copies.opened:
        raise InvalidInputError("cut", f"{cut.opened}", f"{subject.copies.opened} different copies")
    parts = _parts("openings", data, openings_sizes(subject))
    opened = {
        copy: Opened(seed=next(parts), shares=tuple(next(parts) for _ in range(subject.secrets))) for copy in cut.opened
    }
    return Openings(
        opened=opened, kept={copy: Table(opening=Hash32(next(parts)), rows=next(parts)) for copy in kept}
    )  # fmt: skip


def openings_sizes(subject: Subject) -> list[int]:
    """Return the bytes of each of its parts."""
    opened, kept = subject.copies.opened, subject.copies.count - subject.copies.opened
    return [SHARE_SIZE] * ((1 + subject.secrets) * opened) + [SHARE_SIZE, table_size(subject.circuit)] * kept


def encode_claims(said: ClaimPresignatures) -> bytes:
    """Return the verifier's signatures, in the order of the record."""
    both = [part for pair in zip(said.ranges, said.entries, strict=True) for part in pair]
    return b"".join([*both, said.refund, *said.digits, *said.releases, *said.reveals, *said.shown])


def decode_claims(graph: Graph, data: bytes) -> ClaimPresignatures:
    """Return the verifier's signatures. Raises InvalidInputError for another length."""
    terms, parents = graph.terms, list(graph.parents)
    sets, every = (len(terms.sets), 2 * len(terms.claim.payouts)) if terms.is_lazy else (0, 0)
    parts = list(_parts("claims", data, claims_sizes(graph)))
    both, rest = parts[: 2 * len(parents)], parts[2 * len(parents) :]
    plain = rest[1 + sets :]
    return ClaimPresignatures(
        ranges=tuple(both[::2]), entries=tuple(both[1::2]), refund=rest[0], digits=tuple(rest[1 : 1 + sets]),
        releases=tuple(plain[:every]), reveals=tuple(plain[every : 2 * every]), shown=tuple(plain[2 * every :]),
    )  # fmt: skip


def claims_sizes(graph: Graph) -> list[int]:
    """Return the bytes of each of its parts."""
    terms, ranges, sizes = graph.terms, ADAPTOR_SIZE * len(graph.terms.claim.payouts), list[int]()
    for silent, leaf in graph.parents:
        sizes += [ranges, ADAPTOR_SIZE * count_of(graph.points, graph.claim_chain(leaf, silent=silent))]
    sets, every = (len(terms.sets), 2 * len(terms.claim.payouts)) if terms.is_lazy else (0, 0)
    sizes.append(SIGNATURE_SIZE)
    sizes += [ADAPTOR_SIZE * count_of(graph.points, graph.reveal_chain(which)) for which in range(sets)]
    return sizes + [SIGNATURE_SIZE] * (every * (2 + sets))


def encode_silence(said: SilencePresignatures) -> bytes:
    """Return the claimant's signatures, in the order of the record."""
    return b"".join([*said.first, *said.entries, said.end, *said.challenges])


def decode_silence(graph: Graph, data: bytes) -> SilencePresignatures:
    """Return the claimant's signatures. Raises InvalidInputError for another length."""
    sets, parts = len(graph.terms.sets), list(_parts("silence", data, silence_sizes(graph)))
    return SilencePresignatures(
        first=tuple(parts[:sets]), entries=tuple(parts[sets : 2 * sets]), end=parts[2 * sets],
        challenges=tuple(parts[2 * sets + 1 :]),
    )  # fmt: skip


def silence_sizes(graph: Graph) -> list[int]:
    """Return the bytes of each of its parts."""
    terms = graph.terms
    sets, every = len(terms.sets), 2 * len(terms.claim.payouts) if terms.is_lazy else 0
    sizes = [SIGNATURE_SIZE] * sets
    sizes += [ADAPTOR_SIZE * count_of(graph.points, graph.silence_chain(which)) for which in range(sets)]
    return sizes + [SIGNATURE_SIZE] * (1 + every)


def _parts(what: str, data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Return the parts of a message. Raises InvalidInputError at once where it is longer or shorter than they are."""
    if len(data) != sum(sizes):
        raise InvalidInputError(what, f"{len(data)} bytes", f"{sum(sizes)} bytes")
    return _split(data, sizes)


def _split(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
