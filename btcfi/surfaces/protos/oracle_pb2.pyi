# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ObservationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUOTE: _ClassVar[ObservationKind]
    LEG: _ClassVar[ObservationKind]
    MISSING: _ClassVar[ObservationKind]
QUOTE: ObservationKind
LEG: ObservationKind
MISSING: ObservationKind

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TimeSyncProof(_message.Message):
    __slots__ = ("local_timestamp", "ntp_timestamp", "ntp_signature", "round_trip_ms", "servers")
    LOCAL_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    NTP_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    NTP_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_MS_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    local_timestamp: int
    ntp_timestamp: int
    ntp_signature: bytes
    round_trip_ms: int
    servers: int
    def __init__(self, local_timestamp: _Optional[int] = ..., ntp_timestamp: _Optional[int] = ..., ntp_signature: _Optional[bytes] = ..., round_trip_ms: _Optional[int] = ..., servers: _Optional[int] = ...) -> None: ...

class PriceSubmission(_message.Message):
    __slots__ = ("price", "volume", "timestamp", "exchange", "signature", "time_proof", "node_id", "feed", "venue", "kind", "open_cents", "high_cents", "low_cents", "close_cents", "volume_sats", "rate_e8", "missing_reason", "missing_detail", "observed_at", "sent_at_ms", "evidence", "raw_response", "commitment_nonce", "open_e8", "high_e8", "low_e8", "leg_volume_e8")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TIME_PROOF_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    FEED_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OPEN_CENTS_FIELD_NUMBER: _ClassVar[int]
    HIGH_CENTS_FIELD_NUMBER: _ClassVar[int]
    LOW_CENTS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CENTS_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SATS_FIELD_NUMBER: _ClassVar[int]
    RATE_E8_FIELD_NUMBER: _ClassVar[int]
    MISSING_REASON_FIELD_NUMBER: _ClassVar[int]
    MISSING_DETAIL_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    RAW_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_NONCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_E8_FIELD_NUMBER: _ClassVar[int]
    HIGH_E8_FIELD_NUMBER: _ClassVar[int]
    LOW_E8_FIELD_NUMBER: _ClassVar[int]
    LEG_VOLUME_E8_FIELD_NUMBER: _ClassVar[int]
    price: float
    volume: float
    timestamp: int
    exchange: str
    signature: bytes
    time_proof: TimeSyncProof
    node_id: str
    feed: str
    venue: str
    kind: ObservationKind
    open_cents: int
    high_cents: int
    low_cents: int
    close_cents: int
    volume_sats: int
    rate_e8: int
    missing_reason: str
    missing_detail: str
    observed_at: int
    sent_at_ms: int
    evidence: bytes
    raw_response: bytes
    commitment_nonce: bytes
    open_e8: int
    high_e8: int
    low_e8: int
    leg_volume_e8: int
    def __init__(self, price: _Optional[float] = ..., volume: _Optional[float] = ..., timestamp: _Optional[int] = ..., exchange: _Optional[str] = ..., signature: _Optional[bytes] = ..., time_proof: _Optional[_Union[TimeSyncProof, _Mapping]] = ..., node_id: _Optional[str] = ..., feed: _Optional[str] = ..., venue: _Optional[str] = ..., kind: _Optional[_Union[ObservationKind, str]] = ..., open_cents: _Optional[int] = ..., high_cents: _Optional[int] = ..., low_cents: _Optional[int] = ..., close_cents: _Optional[int] = ..., volume_sats: _Optional[int] = ..., rate_e8: _Optional[int] = ..., missing_reason: _Optional[str] = ..., missing_detail: _Optional[str] = ..., observed_at: _Optional[int] = ..., sent_at_ms: _Optional[int] = ..., evidence: _Optional[bytes] = ..., raw_response: _Optional[bytes] = ..., commitment_nonce: _Optional[bytes] = ..., open_e8: _Optional[int] = ..., high_e8: _Optional[int] = ..., low_e8: _Optional[int] = ..., leg_volume_e8: _Optional[int] = ...) -> None: ...

class Acknowledgment(_message.Message):
    __slots__ = ("accepted", "reason", "slot", "submission_hash")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_HASH_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    slot: int
    submission_hash: bytes
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., slot: _Optional[int] = ..., submission_hash: _Optional[bytes] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("node_id", "slot", "commitment", "signature")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    slot: int
    commitment: bytes
    signature: bytes
    def __init__(self, node_id: _Optional[str] = ..., slot: _Optional[int] = ..., commitment: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class OraclePrice(_message.Message):
    __slots__ = ("exchange", "pair", "bid", "ask", "last", "volume_24h", "timestamp", "signature", "close_cents", "volume_sats", "dollars_cents", "basis", "node_id", "evidence")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    PAIR_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    VOLUME_24H_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CENTS_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SATS_FIELD_NUMBER: _ClassVar[int]
    DOLLARS_CENTS_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    exchange: str
    pair: str
    bid: float
    ask: float
    last: float
    volume_24h: float
    timestamp: int
    signature: bytes
    close_cents: int
    volume_sats: int
    dollars_cents: int
    basis: str
    node_id: str
    evidence: bytes
    def __init__(self, exchange: _Optional[str] = ..., pair: _Optional[str] = ..., bid: _Optional[float] = ..., ask: _Optional[float] = ..., last: _Optional[float] = ..., volume_24h: _Optional[float] = ..., timestamp: _Optional[int] = ..., signature: _Optional[bytes] = ..., close_cents: _Optional[int] = ..., volume_sats: _Optional[int] = ..., dollars_cents: _Optional[int] = ..., basis: _Optional[str] = ..., node_id: _Optional[str] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class DroppedPrice(_message.Message):
    __slots__ = ("venue", "reason", "close_cents", "deviation_bps", "limit_bps")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CENTS_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_BPS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BPS_FIELD_NUMBER: _ClassVar[int]
    venue: str
    reason: str
    close_cents: int
    deviation_bps: int
    limit_bps: int
    def __init__(self, venue: _Optional[str] = ..., reason: _Optional[str] = ..., close_cents: _Optional[int] = ..., deviation_bps: _Optional[int] = ..., limit_bps: _Optional[int] = ...) -> None: ...

class AbsentVenue(_message.Message):
    __slots__ = ("venue", "reason", "detail")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    venue: str
    reason: str
    detail: str
    def __init__(self, venue: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class AggregatedPrice(_message.Message):
    __slots__ = ("price", "confidence", "num_sources", "sources", "timestamp", "price_cents", "low_cents", "high_cents", "confidence_cents", "confidence_bps", "dropped", "absent", "report_hash", "evidence_root", "signatures", "certified", "dollar_markets", "reach_cents", "thin", "expires_at")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    NUM_SOURCES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    PRICE_CENTS_FIELD_NUMBER: _ClassVar[int]
    LOW_CENTS_FIELD_NUMBER: _ClassVar[int]
    HIGH_CENTS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_CENTS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_BPS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    REPORT_HASH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_ROOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    CERTIFIED_FIELD_NUMBER: _ClassVar[int]
    DOLLAR_MARKETS_FIELD_NUMBER: _ClassVar[int]
    REACH_CENTS_FIELD_NUMBER: _ClassVar[int]
    THIN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    price: float
    confidence: float
    num_sources: int
    sources: _containers.RepeatedCompositeFieldContainer[OraclePrice]
    timestamp: int
    price_cents: int
    low_cents: int
    high_cents: int
    confidence_cents: int
    confidence_bps: int
    dropped: _containers.RepeatedCompositeFieldContainer[DroppedPrice]
    absent: _containers.RepeatedCompositeFieldContainer[AbsentVenue]
    report_hash: bytes
    evidence_root: bytes
    signatures: int
    certified: bool
    dollar_markets: int
    reach_cents: int
    thin: _containers.RepeatedScalarFieldContainer[str]
    expires_at: int
    def __init__(self, price: _Optional[float] = ..., confidence: _Optional[float] = ..., num_sources: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[OraclePrice, _Mapping]]] = ..., timestamp: _Optional[int] = ..., price_cents: _Optional[int] = ..., low_cents: _Optional[int] = ..., high_cents: _Optional[int] = ..., confidence_cents: _Optional[int] = ..., confidence_bps: _Optional[int] = ..., dropped: _Optional[_Iterable[_Union[DroppedPrice, _Mapping]]] = ..., absent: _Optional[_Iterable[_Union[AbsentVenue, _Mapping]]] = ..., report_hash: _Optional[bytes] = ..., evidence_root: _Optional[bytes] = ..., signatures: _Optional[int] = ..., certified: _Optional[bool] = ..., dollar_markets: _Optional[int] = ..., reach_cents: _Optional[int] = ..., thin: _Optional[_Iterable[str]] = ..., expires_at: _Optional[int] = ...) -> None: ...

class ConsensusPrice(_message.Message):
    __slots__ = ("price",)
    PRICE_FIELD_NUMBER: _ClassVar[int]
    price: AggregatedPrice
    def __init__(self, price: _Optional[_Union[AggregatedPrice, _Mapping]] = ...) -> None: ...

class PriceUpdate(_message.Message):
    __slots__ = ("slot", "priced", "price", "void_reason", "dropped", "absent", "final")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PRICED_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOID_REASON_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    slot: int
    priced: bool
    price: AggregatedPrice
    void_reason: str
    dropped: _containers.RepeatedCompositeFieldContainer[DroppedPrice]
    absent: _containers.RepeatedCompositeFieldContainer[AbsentVenue]
    final: bool
    def __init__(self, slot: _Optional[int] = ..., priced: _Optional[bool] = ..., price: _Optional[_Union[AggregatedPrice, _Mapping]] = ..., void_reason: _Optional[str] = ..., dropped: _Optional[_Iterable[_Union[DroppedPrice, _Mapping]]] = ..., absent: _Optional[_Iterable[_Union[AbsentVenue, _Mapping]]] = ..., final: _Optional[bool] = ...) -> None: ...

class TimeRange(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class PriceHistory(_message.Message):
    __slots__ = ("prices", "gaps")
    PRICES_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    prices: _containers.RepeatedCompositeFieldContainer[AggregatedPrice]
    gaps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, prices: _Optional[_Iterable[_Union[AggregatedPrice, _Mapping]]] = ..., gaps: _Optional[_Iterable[int]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("slot",)
    SLOT_FIELD_NUMBER: _ClassVar[int]
    slot: int
    def __init__(self, slot: _Optional[int] = ...) -> None: ...

class RoundReport(_message.Message):
    __slots__ = ("slot", "final", "report_json", "submissions", "signatures", "report_hash", "contradictions", "commitments", "late_contradictions")
    class SignaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    SLOT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    REPORT_HASH_FIELD_NUMBER: _ClassVar[int]
    CONTRADICTIONS_FIELD_NUMBER: _ClassVar[int]
    COMMITMENTS_FIELD_NUMBER: _ClassVar[int]
    LATE_CONTRADICTIONS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    final: bool
    report_json: bytes
    submissions: _containers.RepeatedCompositeFieldContainer[PriceSubmission]
    signatures: _containers.ScalarMap[str, bytes]
    report_hash: bytes
    contradictions: _containers.RepeatedCompositeFieldContainer[Contradiction]
    commitments: _containers.RepeatedCompositeFieldContainer[CommitRequest]
    late_contradictions: _containers.RepeatedCompositeFieldContainer[Contradiction]
    def __init__(self, slot: _Optional[int] = ..., final: _Optional[bool] = ..., report_json: _Optional[bytes] = ..., submissions: _Optional[_Iterable[_Union[PriceSubmission, _Mapping]]] = ..., signatures: _Optional[_Mapping[str, bytes]] = ..., report_hash: _Optional[bytes] = ..., contradictions: _Optional[_Iterable[_Union[Contradiction, _Mapping]]] = ..., commitments: _Optional[_Iterable[_Union[CommitRequest, _Mapping]]] = ..., late_contradictions: _Optional[_Iterable[_Union[Contradiction, _Mapping]]] = ...) -> None: ...

class Contradiction(_message.Message):
    __slots__ = ("first", "second")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    first: PriceSubmission
    second: PriceSubmission
    def __init__(self, first: _Optional[_Union[PriceSubmission, _Mapping]] = ..., second: _Optional[_Union[PriceSubmission, _Mapping]] = ...) -> None: ...

class ReportSignature(_message.Message):
    __slots__ = ("node_id", "slot", "signature")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    slot: int
    signature: bytes
    def __init__(self, node_id: _Optional[str] = ..., slot: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class PriceRequest(_message.Message):
    __slots__ = ("submission",)
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    submission: PriceSubmission
    def __init__(self, submission: _Optional[_Union[PriceSubmission, _Mapping]] = ...) -> None: ...

class PriceResponse(_message.Message):
    __slots__ = ("success", "message", "timestamp")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    timestamp: int
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., timestamp: _Optional[int] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ("node_id", "local_timestamp_ms")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LOCAL_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    local_timestamp_ms: int
    def __init__(self, node_id: _Optional[str] = ..., local_timestamp_ms: _Optional[int] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node_id", "venue", "active", "last_heard", "accepted", "refused")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LAST_HEARD_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    venue: str
    active: bool
    last_heard: int
    accepted: int
    refused: int
    def __init__(self, node_id: _Optional[str] = ..., venue: _Optional[str] = ..., active: _Optional[bool] = ..., last_heard: _Optional[int] = ..., accepted: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("healthy", "active_nodes", "timestamp", "version", "nodes", "received_at_ms", "sent_at_ms", "refused_by_kind")
    class RefusedByKindEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_NODES_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_KIND_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    active_nodes: int
    timestamp: int
    version: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    received_at_ms: int
    sent_at_ms: int
    refused_by_kind: _containers.ScalarMap[str, int]
    def __init__(self, healthy: _Optional[bool] = ..., active_nodes: _Optional[int] = ..., timestamp: _Optional[int] = ..., version: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., received_at_ms: _Optional[int] = ..., sent_at_ms: _Optional[int] = ..., refused_by_kind: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetPriceRequest(_message.Message):
    __slots__ = ("slot",)
    SLOT_FIELD_NUMBER: _ClassVar[int]
    slot: int
    def __init__(self, slot: _Optional[int] = ...) -> None: ...

class GetPriceResponse(_message.Message):
    __slots__ = ("price",)
    PRICE_FIELD_NUMBER: _ClassVar[int]
    price: AggregatedPrice
    def __init__(self, price: _Optional[_Union[AggregatedPrice, _Mapping]] = ...) -> None: ...
