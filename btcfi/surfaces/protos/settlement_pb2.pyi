# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OptionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL: _ClassVar[OptionType]
    PUT: _ClassVar[OptionType]
    BINARY_CALL: _ClassVar[OptionType]
    BINARY_PUT: _ClassVar[OptionType]

class OptionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CREATED: _ClassVar[OptionStatus]
    ACTIVE: _ClassVar[OptionStatus]
    EXPIRED: _ClassVar[OptionStatus]
    EXERCISED: _ClassVar[OptionStatus]
    ABANDONED: _ClassVar[OptionStatus]
    FAILED: _ClassVar[OptionStatus]
    CANCELLED: _ClassVar[OptionStatus]
CALL: OptionType
PUT: OptionType
BINARY_CALL: OptionType
BINARY_PUT: OptionType
CREATED: OptionStatus
ACTIVE: OptionStatus
EXPIRED: OptionStatus
EXERCISED: OptionStatus
ABANDONED: OptionStatus
FAILED: OptionStatus
CANCELLED: OptionStatus

class OptionContract(_message.Message):
    __slots__ = ("id", "type", "strike", "expiry_block", "premium_btc", "collateral_btc", "buyer_pubkey", "seller_pubkey", "taproot_address", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STRIKE_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_BLOCK_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_BTC_FIELD_NUMBER: _ClassVar[int]
    COLLATERAL_BTC_FIELD_NUMBER: _ClassVar[int]
    BUYER_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    SELLER_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    TAPROOT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    type: OptionType
    strike: float
    expiry_block: int
    premium_btc: float
    collateral_btc: float
    buyer_pubkey: bytes
    seller_pubkey: bytes
    taproot_address: bytes
    status: OptionStatus
    def __init__(self, id: _Optional[bytes] = ..., type: _Optional[_Union[OptionType, str]] = ..., strike: _Optional[float] = ..., expiry_block: _Optional[int] = ..., premium_btc: _Optional[float] = ..., collateral_btc: _Optional[float] = ..., buyer_pubkey: _Optional[bytes] = ..., seller_pubkey: _Optional[bytes] = ..., taproot_address: _Optional[bytes] = ..., status: _Optional[_Union[OptionStatus, str]] = ...) -> None: ...

class OracleAttestation(_message.Message):
    __slots__ = ("oracle_id", "attested_price", "timestamp", "signature")
    ORACLE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_PRICE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    oracle_id: str
    attested_price: float
    timestamp: int
    signature: bytes
    def __init__(self, oracle_id: _Optional[str] = ..., attested_price: _Optional[float] = ..., timestamp: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SettlementRequest(_message.Message):
    __slots__ = ("option_id", "final_price", "attestations", "bitvmx_proof")
    OPTION_ID_FIELD_NUMBER: _ClassVar[int]
    FINAL_PRICE_FIELD_NUMBER: _ClassVar[int]
    ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    BITVMX_PROOF_FIELD_NUMBER: _ClassVar[int]
    option_id: bytes
    final_price: float
    attestations: _containers.RepeatedCompositeFieldContainer[OracleAttestation]
    bitvmx_proof: bytes
    def __init__(self, option_id: _Optional[bytes] = ..., final_price: _Optional[float] = ..., attestations: _Optional[_Iterable[_Union[OracleAttestation, _Mapping]]] = ..., bitvmx_proof: _Optional[bytes] = ...) -> None: ...

class SettlementStatus(_message.Message):
    __slots__ = ("option_id", "state", "status", "detail", "slot", "settlement_price_cents", "payout_sats", "settlement_txid", "proof_root", "paid_sats")
    OPTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_PRICE_CENTS_FIELD_NUMBER: _ClassVar[int]
    PAYOUT_SATS_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_TXID_FIELD_NUMBER: _ClassVar[int]
    PROOF_ROOT_FIELD_NUMBER: _ClassVar[int]
    PAID_SATS_FIELD_NUMBER: _ClassVar[int]
    option_id: bytes
    state: str
    status: OptionStatus
    detail: str
    slot: int
    settlement_price_cents: int
    payout_sats: int
    settlement_txid: str
    proof_root: bytes
    paid_sats: int
    def __init__(self, option_id: _Optional[bytes] = ..., state: _Optional[str] = ..., status: _Optional[_Union[OptionStatus, str]] = ..., detail: _Optional[str] = ..., slot: _Optional[int] = ..., settlement_price_cents: _Optional[int] = ..., payout_sats: _Optional[int] = ..., settlement_txid: _Optional[str] = ..., proof_root: _Optional[bytes] = ..., paid_sats: _Optional[int] = ...) -> None: ...

class ProofRequest(_message.Message):
    __slots__ = ("option_id",)
    OPTION_ID_FIELD_NUMBER: _ClassVar[int]
    option_id: bytes
    def __init__(self, option_id: _Optional[bytes] = ...) -> None: ...

class MerkleProofElement(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: bytes
    def __init__(self, hash: _Optional[bytes] = ...) -> None: ...

class BitVMXProof(_message.Message):
    __slots__ = ("program_hash", "input_commitment", "execution_trace_root", "final_state_hash", "path", "proof_file")
    PROGRAM_HASH_FIELD_NUMBER: _ClassVar[int]
    INPUT_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TRACE_ROOT_FIELD_NUMBER: _ClassVar[int]
    FINAL_STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROOF_FILE_FIELD_NUMBER: _ClassVar[int]
    program_hash: bytes
    input_commitment: bytes
    execution_trace_root: bytes
    final_state_hash: bytes
    path: _containers.RepeatedCompositeFieldContainer[MerkleProofElement]
    proof_file: bytes
    def __init__(self, program_hash: _Optional[bytes] = ..., input_commitment: _Optional[bytes] = ..., execution_trace_root: _Optional[bytes] = ..., final_state_hash: _Optional[bytes] = ..., path: _Optional[_Iterable[_Union[MerkleProofElement, _Mapping]]] = ..., proof_file: _Optional[bytes] = ...) -> None: ...

class ProofVerification(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: BitVMXProof
    def __init__(self, proof: _Optional[_Union[BitVMXProof, _Mapping]] = ...) -> None: ...

class VerificationResult(_message.Message):
    __slots__ = ("valid", "reason")
    VALID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    valid: bool
    reason: str
    def __init__(self, valid: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...
