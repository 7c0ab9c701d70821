"""schemathesis draws requests from our own OpenAPI document: no 5xx, no answer that the document does not promise."""

from __future__ import annotations

import warnings

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from btcfi.adapters.store.spine.database import Store
from btcfi.surfaces.rest.app import create_app
from btcfi.surfaces.rest.deps import OPERATE, READ, TRADE, Deps, Limits
from tests.support.market_world import with_market
from tests.support.rest_world import FEED, make_world

CONFORMANCE = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]


def _operations():
    """Every operation but the streams, which end when their reader hangs up and have their own tests."""
    idle = Deps(
        store=Store("sqlite://"), clock=int, monotonic=float, new_id=str, create_option=print, submit=print, feed=FEED
    )
    paths = create_app(idle).openapi()["paths"]
    return [(path, method) for path, methods in paths.items() for method in methods if not path.endswith("/stream")]


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    world = make_world(
        tmp_path_factory.mktemp("openapi"),
        anonymous_roles=frozenset({READ, TRADE, OPERATE}),
        limits=Limits(anonymous_requests_per_minute=10**9),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # FastAPI only warns of two operations with one id
        app = create_app(with_market(world).deps)
        app.openapi()
    yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    world.store.close()


@pytest.mark.parametrize(("path", "method"), _operations())
def test_every_drawn_request_gets_a_documented_answer(document, path, method):
    operation = document[path][method]

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def positive(case):
        case.call_and_validate(checks=CONFORMANCE)

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def negative(case):
        case.call_and_validate(checks=CONFORMANCE)

    positive()
    if operation.body or operation.query or operation.path_parameters:
        negative()


def test_the_document_names_every_published_path_and_its_fields(document):
    paths = document.raw_schema["paths"]
    for path, method in {"/api/premium": "get", "/api/market": "get", "/api/option/create": "post"}.items():
        versioned = path.replace("/api/", "/api/v1/")
        assert paths[versioned][method]["responses"].keys() == paths[path][method]["responses"].keys()
    fields = document.raw_schema["components"]["schemas"]
    assert {"premium_btc", "delta", "gamma", "theta", "vega"} <= fields["Premium"]["properties"].keys()
    assert {"spot_price", "volatility_30d", "last_update"} <= fields["Market"]["properties"].keys()
    assert set(fields["CreateOption"]["required"]) == {"type", "strike", "expiry", "quantity"}
    assert {"option_id", "premium", "taproot_address"} <= fields["Created"]["properties"].keys()
