"""Errors meet the outside in one table: exit code of the CLI, HTTP status of the API, status of gRPC.

A class without a row of its own has its nearest ancestor's; a test demands that every public error is reachable.
"""

from __future__ import annotations

from dataclasses import dataclass

from btcfi import errors
from btcfi.adapters import keystore, miniscript, sealed_letters
from btcfi.adapters.chain import node
from btcfi.adapters.store.market import errors as market_errors
from btcfi.adapters.store.spine import errors as store_errors
from btcfi.bitcoin import adaptor, wallet
from btcfi.contracts import anchor, mandate, option, reopen, setup, splice, summary
from btcfi.market import account
from btcfi.options import expiry, order
from btcfi.oracle import announcement, attestation, path_evidence, submission
from btcfi.proofs import errors as proof_errors
from btcfi.surfaces.rest import errors as rest_errors
from btcfi.swaps import errors as swap_errors
from btcfi.vm import machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the outside sees of an error class."""

    exit_code: int
    http: int
    grpc: str
    """Name of a grpc.StatusCode, as text, so that the table needs no grpc."""


ROWS: dict[type[Exception], Row] = {
    errors.BtcfiError: Row(exit_code=1, http=500, grpc="INTERNAL"),
    errors.InvalidInputError: Row(exit_code=2, http=422, grpc="INVALID_ARGUMENT"),
    errors.NotFoundError: Row(exit_code=3, http=404, grpc="NOT_FOUND"),
    errors.NotHeldError: Row(exit_code=78, http=500, grpc="FAILED_PRECONDITION"),
    errors.PreconditionError: Row(exit_code=78, http=500, grpc="FAILED_PRECONDITION"),
    errors.ConflictError: Row(exit_code=65, http=409, grpc="ALREADY_EXISTS"),
    errors.RetryableError: Row(exit_code=75, http=503, grpc="UNAVAILABLE"),
    errors.UnreachableError: Row(exit_code=69, http=503, grpc="UNAVAILABLE"),
    store_errors.StoreDamagedError: Row(exit_code=65, http=503, grpc="DATA_LOSS"),
    store_errors.StoreFullError: Row(exit_code=74, http=503, grpc="RESOURCE_EXHAUSTED"),
    store_errors.StoreReadOnlyError: Row(exit_code=77, http=503, grpc="FAILED_PRECONDITION"),
    store_errors.StoreBusyError: Row(exit_code=75, http=503, grpc="UNAVAILABLE"),
    node.PortInUseError: Row(exit_code=71, http=500, grpc="INTERNAL"),
    node.DatadirInUseError: Row(exit_code=73, http=500, grpc="INTERNAL"),
    node.TxRejectedError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    wallet.InsufficientFundsError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    swap_errors.SwapRefusedError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    keystore.WrongPassphraseError: Row(exit_code=77, http=401, grpc="UNAUTHENTICATED"),
    adaptor.WrongAdaptorError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    option.WrongSignatureError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    reopen.NotSecuredError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    splice.CoinMissingError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    setup.WrongMessageError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    mandate.WrongMandateError: Row(exit_code=77, http=403, grpc="PERMISSION_DENIED"),
    summary.DeclinedError: Row(exit_code=79, http=403, grpc="PERMISSION_DENIED"),
    account.WrongRegistrationError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    account.WrongSignatureError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    account.AnotherDeskError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    miniscript.CompilersDisagreeError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    sealed_letters.SealedToAnotherError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    sealed_letters.UnsealableError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    market_errors.SuspendedError: Row(exit_code=77, http=403, grpc="PERMISSION_DENIED"),
    market_errors.MailboxFullError: Row(exit_code=75, http=503, grpc="RESOURCE_EXHAUSTED"),
    anchor.WrongAnchorError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    announcement.WrongAnnouncementError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    attestation.WrongAttestationError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    path_evidence.WrongEvidenceError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
    attestation.AlreadyAttestedError: Row(exit_code=65, http=409, grpc="ABORTED"),
    attestation.EventHeldError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    machine.GuestMismatchError: Row(exit_code=78, http=500, grpc="INTERNAL"),
    machine.MachineFaultError: Row(exit_code=70, http=422, grpc="INVALID_ARGUMENT"),
    machine.ExecutorsDisagreeError: Row(exit_code=70, http=500, grpc="INTERNAL"),
    order.PriceMovedError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    order.QuoteExpiredError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    expiry.GuestRefusedError: Row(exit_code=65, http=422, grpc="INVALID_ARGUMENT"),
    submission.UnknownNodeError: Row(exit_code=77, http=403, grpc="PERMISSION_DENIED"),
    submission.WrongVenueError: Row(exit_code=77, http=403, grpc="PERMISSION_DENIED"),
    submission.BadSignatureError: Row(exit_code=77, http=401, grpc="UNAUTHENTICATED"),
    submission.ClosedSlotError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    submission.FutureSlotError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    submission.ClockSkewError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    submission.CommitmentError: Row(exit_code=65, http=409, grpc="FAILED_PRECONDITION"),
    submission.ReplayedSubmissionError: Row(exit_code=65, http=409, grpc="ALREADY_EXISTS"),
    submission.EquivocationError: Row(exit_code=65, http=409, grpc="ABORTED"),
    submission.OversizedSubmissionError: Row(exit_code=65, http=413, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.UnauthenticatedError: Row(exit_code=77, http=401, grpc="UNAUTHENTICATED"),
    rest_errors.RoleMissingError: Row(exit_code=77, http=403, grpc="PERMISSION_DENIED"),
    rest_errors.RateLimitedError: Row(exit_code=75, http=429, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.BodyTooLargeError: Row(exit_code=65, http=413, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.TooManyStreamsError: Row(exit_code=75, http=503, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.TooManyWaitingError: Row(exit_code=75, http=503, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.NoWebhooksError: Row(exit_code=69, http=403, grpc="UNIMPLEMENTED"),
    rest_errors.NoDeskError: Row(exit_code=75, http=503, grpc="UNAVAILABLE"),
    rest_errors.BusyError: Row(exit_code=75, http=503, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.NoRoomError: Row(exit_code=75, http=503, grpc="RESOURCE_EXHAUSTED"),
    rest_errors.SlowBodyError: Row(exit_code=75, http=408, grpc="DEADLINE_EXCEEDED"),
    rest_errors.WrongHostError: Row(exit_code=65, http=421, grpc="INVALID_ARGUMENT"),
    rest_errors.UnprintablePathError: Row(exit_code=65, http=400, grpc="INVALID_ARGUMENT"),
    rest_errors.AmbiguousLengthError: Row(exit_code=65, http=400, grpc="INVALID_ARGUMENT"),
    rest_errors.WrongContentTypeError: Row(exit_code=65, http=415, grpc="INVALID_ARGUMENT"),
    rest_errors.IdempotencyMismatchError: Row(exit_code=65, http=409, grpc="ALREADY_EXISTS"),
    rest_errors.RequestUnderWayError: Row(exit_code=75, http=409, grpc="ABORTED"),
    proof_errors.ProofError: Row(exit_code=76, http=422, grpc="INVALID_ARGUMENT"),
}
"""Add a row per decision that a caller can take. Exit codes from 64 follow sysexits.h where one fits; 79 is ours."""


def status_of(error: BaseException) -> Row:
    """Return the row of the nearest ancestor of ``error`` that has one; an unknown error is internal."""
    for kind in type(error).__mro__:
        if kind in ROWS:
            return ROWS[kind]
    return ROWS[errors.BtcfiError]
