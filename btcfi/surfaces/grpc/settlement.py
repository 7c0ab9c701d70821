"""The published SettlementEngine: ask for a settlement, fetch its proof, check any proof.

A request is a row, as from the CLI and the REST API, so that asking twice is asking once; price and payout are never
taken from the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar

import grpc

from btcfi.adapters.store.options import views
from btcfi.adapters.store.options.asking import ask_settlement
from btcfi.adapters.store.options.options import find_option
from btcfi.adapters.store.options.views import Sight
from btcfi.adapters.store.spine.database import Session, Store
from btcfi.errors import BtcfiError, InvalidInputError, NotFoundError
from btcfi.surfaces.addresses import who_calls
from btcfi.surfaces.grpc.keys import AUTHORIZATION, Keys
from btcfi.surfaces.protos import settlement_pb2 as pb
from btcfi.surfaces.protos import settlement_pb2_grpc
from btcfi.surfaces.rest.deps import OPERATE, READ
from btcfi.surfaces.rest.errors import BusyError
from btcfi.surfaces.rest.turns import Turns
from btcfi.surfaces.status import status_of
from btcfi.units import UnixSeconds

A = TypeVar("A")
R = TypeVar("R")

MAX_OPTION_ID: Final = 128
"""Bytes of an option's id."""

MAX_STEPS: Final = 1 << 22
"""Steps that a proof may make this server run again: a fraction of a second, many times the longest settlement."""


VERIFY_WAIT_SECONDS: Final = 20.0
"""For a caller's turn to have a proof verified: one at a time."""


class SettlementEngine(settlement_pb2_grpc.SettlementEngineServicer):
    """The service. ``submit(flow, option_id)`` starts work once its row is committed; losing it is harmless."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float],
        submit: Callable[[str, str], None] = lambda _flow, _option_id: None,
        anonymous_roles: frozenset[str] = frozenset({READ}),
    ) -> None:
        """anonymous_roles: what a caller without a key may do."""
        self._store, self._clock, self._submit = store, clock, submit
        self._keys = Keys(store, clock=clock, anonymous_roles=anonymous_roles)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="settlement-engine")
        # a thread of its own, and a turn each: who asks for a settlement waits for nobody's proof
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="settlement-verifier")
        self._verifications = Turns(each=1)

    def register(self, server: Any) -> str:  # noqa: ANN401 - grpc has no types
        """Add the service to a server and return its full name, for reflection."""
        settlement_pb2_grpc.add_SettlementEngineServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        return str(pb.DESCRIPTOR.services_by_name["SettlementEngine"].full_name)

    async def InitiateSettlement(self, request: pb.SettlementRequest, context: Any) -> pb.SettlementStatus:  # noqa: ANN401, N802 - published
        """Ask for an option to be settled; asking again changes nothing and tells how far it is."""
        return await self._run(context, OPERATE, self._initiate, request.option_id)

    async def GetProof(self, request: pb.ProofRequest, context: Any) -> pb.BitVMXProof:  # noqa: ANN401, N802
        """Return the proof of a settled option. NOT_FOUND while there is none."""
        return await self._run(context, READ, self._proof, request.option_id)

    async def VerifyProof(self, request: pb.ProofVerification, context: Any) -> pb.VerificationResult:  # noqa: ANN401, N802
        """Run a proof's program again and compare everything, each published field too; say which check failed."""
        try:
            async with self._verifications.of(who_calls(str(context.peer())), seconds=VERIFY_WAIT_SECONDS):
                return await self._run(context, READ, self._verify, request.proof, thread=self._verifier)
        except BusyError as e:
            await _abort(context, e)

    async def _run(
        self, context: Any, role: str, work: Callable[[A, str], R], argument: A,  # noqa: ANN401
        *, thread: ThreadPoolExecutor | None = None,
    ) -> R:  # fmt: skip
        def admitted() -> R:
            return work(argument, self._keys.admit(shown, role))

        shown = dict(context.invocation_metadata()).get(AUTHORIZATION)
        try:
            return await asyncio.get_running_loop().run_in_executor(thread or self._thread, admitted)
        except BtcfiError as e:
            await _abort(context, e)

    def _now(self) -> UnixSeconds:
        return UnixSeconds(int(self._clock()))

    def _initiate(self, raw_id: bytes, caller: str) -> pb.SettlementStatus:
        option_id = _option_id(raw_id)
        asked = ask_settlement(self._store, option_id, requested_by=f"grpc {caller}", now=self._now())
        with self._store.reading() as session:
            status = _status(session, option_id)
        # where the settlement stands, else the request; what was answered is the same text at every door
        status.state = status.state or asked.state
        status.detail = asked.answer or ""
        if asked.opened:
            self._submit("settlement_request", option_id)
        return status

    def _proof(self, raw_id: bytes, _caller: str) -> pb.BitVMXProof:
        option_id = _option_id(raw_id)
        with self._store.reading() as session:
            if not Sight().sees(find_option(session, option_id)):
                # no door shows what a take made to who is no side of it, and here nobody signs as an account
                raise NotFoundError("option", option_id, "a signed GET /api/v1/settlements/ID/proof has it")
            settlement = views.settlement_of(session, option_id)
            blob = views.proof_file(session, settlement) if settlement is not None else None
        if blob is None:
            raise NotFoundError("proof", option_id, "the option is not settled yet")
        return proof_message(blob.body)

    def _verify(self, message: pb.BitVMXProof, _caller: str) -> pb.VerificationResult:
        from btcfi.proofs.settlement_proof import verify  # noqa: PLC0415 - numba, only when needed
        from btcfi.proofs.wire import from_sent  # noqa: PLC0415 - as above
        from btcfi.vm.program import program_of_proof  # noqa: PLC0415 - as above

        try:
            # written again: every value that is looked at here stands in it, and what this service does not know
            proof = from_sent(message.SerializeToString())
            program = program_of_proof(proof.program_name, proof.program_hash)
            verify(proof, program, max_steps=MAX_STEPS)
        except BtcfiError as e:
            return pb.VerificationResult(valid=False, reason=str(e))
        return pb.VerificationResult(valid=True)


def proof_message(proof_file: bytes) -> pb.BitVMXProof:
    """Return the published message of a proof file, the JSON of ``btcfi prove``. Raises ProofError for another file."""
    from btcfi.proofs.settlement_proof import from_json  # noqa: PLC0415 - numba, only when needed

    proof = from_json(proof_file)
    return pb.BitVMXProof(
        program_hash=proof.program_hash,
        input_commitment=proof.input_commitment,
        execution_trace_root=proof.execution_trace_root,
        final_state_hash=proof.final_state_hash,
        path=[pb.MerkleProofElement(hash=h) for h in proof.siblings],
        proof_file=proof_file,
    )


def _option_id(raw: bytes) -> str:
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as e:
        raise InvalidInputError("option_id", "not ASCII", "the id of an option") from e
    if not 0 < len(text) <= MAX_OPTION_ID or not text.isprintable():
        raise InvalidInputError("option_id", f"{len(text)} characters", f"1 to {MAX_OPTION_ID} printable ones")
    return text


def _status(session: Session, option_id: str) -> pb.SettlementStatus:
    option = find_option(session, option_id)
    request = views.request(session, option_id)
    settlement = views.settlement_of(session, option_id)
    status = pb.SettlementStatus(
        option_id=option_id.encode(),
        status=pb.OptionStatus.Value(option.state),
        state=request.state if request is not None else "",
        detail=(request.answer or "") if request is not None else "",
    )
    if settlement is not None:
        status.state = settlement.state
        status.slot = settlement.slot
        status.settlement_price_cents = settlement.price_cents
        status.payout_sats = settlement.payout_sats or 0
        status.settlement_txid = settlement.txid or ""
        status.proof_root = bytes.fromhex(settlement.proof_root) if settlement.proof_root else b""
        if settlement.paid_sats is not None:
            status.paid_sats = settlement.paid_sats
    return status


async def _abort(context: Any, error: BtcfiError) -> NoReturn:  # noqa: ANN401 - grpc.aio has no types
    await context.abort(getattr(grpc.StatusCode, status_of(error).grpc), str(error))
    raise AssertionError("abort raises")  # pragma: no cover - grpc's abort never returns
