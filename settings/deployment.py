"""Where and how fast: the settings of one installation, from the environment, typed and frozen.

Nothing here decides money; that is a preset (``settings/preset.py``). A process reads its deployment once, in its
main function, never at import.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from btcfi.errors import InvalidInputError
from btcfi.oracle.quote import parse_venue

PREFIX = "BTCFI_"
"""Of every variable that is ours alone; the four URLs keep the names that hosting platforms set."""

UNPREFIXED = frozenset({"database_url", "broker_url", "result_backend_url", "node_url"})

SECRETS = ("database_url", "broker_url", "result_backend_url", "node_url", "flower_password")
"""Fields that may hold a password; each can be given as a file instead, by its variable with ``_FILE`` behind it."""

TILDE = "a path that begins with ~, which only a shell expands"

NONE = "none"
"""An empty list, as text: an empty variable means the default."""

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Texts = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated in the environment."""


class Deployment(BaseSettings):
    """One installation. A row for every field is in ``settings/README.md``; a test compares."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        env_ignore_empty=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Path("var")
    database_url: str = Field(
        default_factory=lambda known: f"sqlite:///{known['data_dir'] / 'btcfi.db'}",
        validation_alias=AliasChoices("DATABASE_URL"),
        pattern=r"^(sqlite|postgresql)(\+\w+)?:",
        repr=False,
    )
    broker_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("BROKER_URL"),
        pattern=r"^(rediss?(\+socket)?|memory)://",
        repr=False,
    )
    result_backend_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("RESULT_BACKEND_URL"),
        pattern=r"^(rediss?(\+socket)?|cache\+memory)://",
        repr=False,
    )
    broker_key_file: Path = Field(default_factory=lambda known: known["data_dir"] / "broker.key")
    operator_key_file: Path = Field(default_factory=lambda known: known["data_dir"] / "operator.key")
    broker_unsigned: Literal["refuse", "accept"] = "refuse"
    node_url: str | None = Field(
        default=None, validation_alias=AliasChoices("NODE_URL"), pattern=r"^https?://", repr=False
    )
    node_cookie_file: Path | None = None
    node_timeout_seconds: Seconds = 20.0
    network: Literal["main", "test", "testnet4", "signet", "regtest"] = "regtest"

    preset: str = Field(default="standard", pattern=r"^[a-z][a-z0-9_-]*$")
    market_preset: str = Field(default="standard", pattern=r"^[a-z][a-z0-9_-]*$")
    feed: str = Field(default="BTC/USD", pattern=r"^[A-Z]+/[A-Z]+$")
    venues: Texts = (
        "binance:BTC/USDT", "binanceus:BTC/USD", "bitfinex:BTC/USD", "bitstamp:BTC/USD", "coinbaseexchange:BTC/USD",
        "kraken:BTC/USD",
    )  # fmt: skip
    # not Gemini: its answer has the whole day, 90 KB of evidence a minute (docs/oracle.md)
    legs: Texts = ("bitstamp:USDT/USD", "coinbaseexchange:USDT/USD", "kraken:USDT/USD")
    venue_base_url: str | None = Field(default=None, pattern=r"^https?://")
    venue_timeout_seconds: Seconds = 8.0
    venue_rate_limit: bool = True
    fetch_attempts: int = Field(default=3, ge=1, le=10)
    fetch_backoff_seconds: Seconds = 0.5
    tick: bool = True
    replay_clock: bool = False
    replay_until: int | None = Field(default=None, ge=0)

    program: str = Field(default="option_settlement", pattern=r"^[a-z][a-z0-9_]*$")
    wallet_seed_file: Path = Field(default_factory=lambda known: known["data_dir"] / "wallet.seed")
    desk_key_file: Path = Field(default_factory=lambda known: known["data_dir"] / "desk.key")
    webhooks: bool = True
    batches: bool = False
    oracles: Texts = ()
    minute_events: bool = False
    parties_dir: Path = Field(default_factory=lambda known: known["data_dir"] / "parties")
    fee_coins: int = Field(default=64, ge=1, le=2_000)
    settle_concurrency: int = Field(default=2, ge=1, le=64)
    lease_seconds: int = Field(default=60, ge=5, le=600)
    round_deadline_seconds: int = Field(default=20, ge=1, le=55)
    max_attempts: int = Field(default=5, ge=1, le=100)
    max_backlog: int = Field(default=5_000, ge=1, le=1_000_000)
    quote_seconds: int = Field(default=30, ge=1, le=3_600)

    relay_seconds: Seconds = 2.0
    reconcile_seconds: Seconds = 15.0
    premium_seconds: Seconds = 30.0
    watch_seconds: Seconds = 5.0
    exchange_seconds: Seconds = 2.0
    mine_seconds: float = Field(default=0.0, ge=0, le=86_400, allow_inf_nan=False)
    canary_seconds: Seconds = 30.0
    anchor_seconds: float = Field(default=3_600.0, ge=0, le=604_800, allow_inf_nan=False)

    flower_port: int = Field(default=5555, ge=0, le=65_535)
    flower_url: str | None = Field(default=None, pattern=r"^https?://")
    flower_user: str = Field(default="operator", pattern=r"^[^:\s]+$")
    flower_password: SecretStr | None = None
    evidence_keep_days: int = Field(default=400, ge=0, le=36_500)
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65_535)
    api_anonymous_roles: Annotated[tuple[Literal["read", "trade", "operate"], ...], NoDecode] = ("read",)
    api_cors_origins: Texts = ()
    api_hosts: Texts = ()
    trusted_proxies: Texts = ()
    log_format: Literal["pretty", "json"] = "pretty"
    listen_host: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:\[\]-]+$")
    metrics_port: int = Field(default=9464, ge=0, le=65_535)

    @field_validator(
        "venues", "legs", "oracles", "api_anonymous_roles", "api_cors_origins", "api_hosts", "trusted_proxies",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return () if value.strip() == NONE else tuple(part.strip() for part in value.split(","))

    @field_validator(
        "data_dir", "broker_key_file", "operator_key_file", "node_cookie_file", "wallet_seed_file", "parties_dir",
        "desk_key_file", "database_url", mode="before",
    )  # fmt: skip
    @classmethod
    def _is_expanded(cls, value: object) -> object:
        """Refuse ``~/x``, which only a shell makes a home folder of: a folder of that name would be made here."""
        if str(value or "").removeprefix("sqlite:///").startswith("~"):
            raise ValueError(f"{TILDE}: write $HOME/…")
        return value

    @field_validator("venues", "legs")
    @classmethod
    def _are_markets(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                parse_venue(text)
            except InvalidInputError as e:
                raise ValueError(str(e)) from e
        if len(set(texts)) != len(texts):
            raise ValueError("a market is named twice")
        return texts

    @field_validator("api_hosts")
    @classmethod
    def _are_host_names(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not re.fullmatch(r"[0-9a-z._-]+|[0-9a-f:]+", text.lower()):
                raise ValueError("no host name: as a browser sends it, without scheme and port")
        return tuple(text.lower() for text in texts)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                ipaddress.ip_network(text)
            except ValueError as e:
                raise ValueError("no address or network of a proxy, e.g. 127.0.0.1 or 10.0.0.0/24") from e
        return texts

    @field_validator("oracles")
    @classmethod
    def _are_urls(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            parts = urlsplit(text)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
                raise ValueError("no URL of an oracle: http://host:port or https://host:port")
        if len(set(texts)) != len(texts):
            raise ValueError("an oracle is named twice")
        return texts

    @property
    def nodes_dir(self) -> Path:
        """Where the keys lie by which the price workers sign what venues said; only the role of prices reads them."""
        return self.data_dir / "nodes"

    def within(self, folder: Path) -> Deployment:
        """Return this deployment with its data in another folder, wherever nothing else was asked for."""
        moved = Deployment(data_dir=folder)
        names = (
            "data_dir", "database_url", "broker_key_file", "operator_key_file", "wallet_seed_file", "parties_dir",
            "desk_key_file",
        )  # fmt: skip
        asked = self.model_fields_set - {"data_dir"}
        return self.model_copy(update={name: getattr(moved, name) for name in names if name not in asked})

    @property
    def missing_database(self) -> Path | None:
        """The file of an SQLite store that is not there yet: opening it would make one. None where one can be asked."""
        file = Path(self.database_url.partition(":///")[2])
        return file if self.database_url.startswith("sqlite") and not file.exists() else None

    def environment(self) -> dict[str, str]:
        """Return the variables from which ``load_deployment`` makes this deployment again, secrets included.

        For the environment of a child process: never for its arguments, which every user of the machine can read.
        """
        return {
            variable(name): _as_text(value)
            for name in type(self).model_fields
            if (value := getattr(self, name)) is not None
        }


def refuse_tilde(name: str, path: Path) -> None:
    """Raise InvalidInputError for ``~/x`` of an option, as in ``--data-dir=~/x``, which no shell expands."""
    if str(path).startswith("~"):
        raise InvalidInputError(name, f"{path}: {TILDE}", "$HOME/…")


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    return field.upper() if field in UNPREFIXED else PREFIX + field.upper()


def load_deployment() -> Deployment:
    """Return the deployment that the environment describes.

    Raises InvalidInputError that names the first wrong variable; its value is not repeated, for it may be a secret.
    """
    try:
        return Deployment(**_from_files())
    except ValidationError as e:
        first: Any = e.errors(include_url=False, include_input=False)[0]
        place = str(first["loc"][0]) if first["loc"] else "environment"
        name = variable(place.lower()) if place.lower() in Deployment.model_fields else place
        problem = str(first["msg"]).removeprefix("Value error, ")  # what pydantic puts before a validator's own words
        raise InvalidInputError(name, problem, "a value as settings/README.md describes it") from e


def _from_files() -> dict[str, Any]:
    """Return the secrets that are given as files: ``VARIABLE_FILE`` names one, unless ``VARIABLE`` itself is set."""
    found: dict[str, Any] = {}
    for field in SECRETS:
        name = variable(field)
        path = os.environ.get(f"{name}_FILE")
        if path and not os.environ.get(name):
            try:
                found[field] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as e:
                problem = e.strerror if isinstance(e, OSError) else "not UTF-8"
                raise InvalidInputError(f"{name}_FILE", f"{path}: {problem}", "a file that this user can read") from e
    return found


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value) or NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
