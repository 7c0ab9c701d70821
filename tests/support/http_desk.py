"""A desk's doors over HTTP on loopback, as far as a party uses them: every signature is checked as a service does."""

import json
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from btcfi import secp256k1
from btcfi.adapters.sealed_letters import box_key
from btcfi.market.account import check_registration, check_time, decode_signed_registration, request_digest
from btcfi.market.firm_offer import check_offer, check_take, decode_signed_offer, decode_signed_take
from btcfi.market.request import check_request, decode_signed_request, encode_signed_request
from tests.support.accounts import DESK, DESK_BOX_SECRET

SPOT = 7_000_000


class HttpDesk:
    """What it was told, and what it answers: a test may change anything of it."""

    def __init__(self, oracles):
        self.info = {
            "desk_key": DESK.hex(), "box_key": box_key(DESK_BOX_SECRET).hex(), "network": "regtest", "feed": "BTC/USD",
            "oracles": [{"url": "http://oracle.test", "key": key.hex()} for key in oracles], "oracle_threshold": 1,
            "preset_sha256": "02" * 32,
        }  # fmt: skip
        self.accounts, self.offers, self.takes = {}, {}, []
        self.requests, self.settlements, self.hooks = {}, {}, []
        self.letters, self.got, self.asked = {}, [], []
        self.browser, self.let_in = {"browser": "Firefox on Linux", "address": "192.0.2.7"}, []
        self.refusal = None
        """A problem and its status, for whatever is asked next."""
        self.url = ""

    def account(self, name):
        return next(one for one in self.accounts.values() if one.registration.name == name)

    def put(self, identity, name, sealed):
        self.letters.setdefault(identity, []).append((len(self.letters.get(identity, [])) + 1, name, sealed))

    # ---- what is asked

    def answer(self, method, target, body, who):
        """Return status and JSON. who: a signed registration, None of nobody."""
        split = urlsplit(target)
        path, query = split.path.removeprefix("/api/v1"), {k: v[0] for k, v in parse_qs(split.query).items()}
        self.asked.append((method, path))
        if self.refusal is not None:
            (problem, status), self.refusal = self.refusal, None
            return status, problem
        handler = getattr(self, f"{method.lower()}_{path.strip('/').split('/')[0].replace('-', '_')}")
        return handler(path, query, json.loads(body) if body else None, who)

    def get_desk(self, *_):
        return 200, self.info

    def post_accounts(self, _, __, body, ___):
        signed = decode_signed_registration(body)
        found = check_registration(signed, desk=DESK)
        known = self.accounts.get(found.identity)
        if known is not None and known != signed and known.registration.number >= found.number:
            return 409, {"detail": "a later registration is known"}
        if any(one.registration.name == found.name and one.registration.identity != found.identity
               for one in self.accounts.values()):  # fmt: skip
            return 409, {"detail": f"the name {found.name} is another account's"}
        self.accounts[found.identity] = signed
        return 201, {"name": found.name}

    def get_me(self, path, *_):
        assert path == "/me/webhooks", path
        return 200, {"items": self.hooks}

    def post_me(self, path, _, body, __):
        assert path == "/me/webhooks", path
        self.hooks.append({
            "id": "0123456789abcdef" * 4, "url": body["url"], "kinds": body.get("kinds", []), "state": "active",
            "told_event": 0, "waiting": False, "tries": 0, "last_status": None, "problem": None, "told_at_unix": None,
            "created_at_unix": 0,
        })  # fmt: skip
        return 201, {"webhook": self.hooks[-1], "secret": "whsec_" + "A" * 32}

    def get_letters(self, _, query, __, who):
        ends = time.monotonic() + float(query.get("wait", 0))
        while not self.letters.get(who.registration.identity) and time.monotonic() < ends:
            time.sleep(0.01)
        rows = self.letters.get(who.registration.identity, [])[: int(query["limit"])]
        return 200, {
            "letters": [{"id": number, "name": name, "sealed": b64encode(sealed).decode(), "sent_at_unix": 0}
                        for number, name, sealed in rows],
            "cursor": 0,
        }  # fmt: skip

    def post_letters(self, path, _, body, who):
        identity = who.registration.identity
        if path.endswith("/acknowledge"):
            self.letters[identity] = [row for row in self.letters[identity] if row[0] not in body["ids"]]
            return 200, body
        self.got.append((identity, body["name"], body["sealed"]))
        return 202, {"name": body["name"]}

    def get_chain(self, *_):
        line = {"instrument": "BTC-29JAN27-60000-C", "bid": None, "ask": None}
        return 200, {"expiry_unix": 1_801_209_600, "expiries_unix": [1_801_209_600], "spot_cents": SPOT,
                     "market_status": "trading\x1b[2J", "lines": [line]}  # fmt: skip

    def get_book(self, path, *_):
        name, asks = path.rpartition("/")[2], []
        for signed in self.offers.values():
            offer = signed.offer
            if offer.instrument.name == name:
                asks.append({
                    "id": offer.id.hex(), "price_sats": offer.price, "price_cents": offer.price_cents,
                    "quantity_centi_btc": offer.quantity, "minimum_centi_btc": offer.minimum,
                    "valid_until_unix": offer.valid_until, "signed": self.shown(signed),
                })  # fmt: skip
        return 200, {"instrument": name, "bids": [], "asks": asks}

    def shown(self, signed):
        from btcfi.market.firm_offer import encode_signed_offer  # noqa: PLC0415 - only here

        return encode_signed_offer(signed)

    def post_offers(self, _, __, body, who):
        results = []
        for one in body["offers"]:
            signed = decode_signed_offer(one)
            check_offer(signed, who.registration.request_key)
            self.offers[signed.offer.id] = signed
            results.append({"id": signed.offer.id.hex(), "state": "open", "problem": None, "field": None})
        return 200, {"results": results}

    def delete_offers(self, path, _, __, who):
        mine = [name for name, one in self.offers.items() if one.offer.maker == who.registration.identity]
        gone = [name for name in mine if path == "/offers" or path.endswith(name.hex())]
        for name in gone:
            del self.offers[name]
        return 200, {"withdrawn": len(gone)}

    def post_takes(self, _, __, body, who):
        signed = decode_signed_take(body)
        check_take(signed, who.registration.request_key)
        self.takes.append(signed)
        return 201, {"state": "taken"}

    def post_requests(self, _, __, body, who):
        signed = decode_signed_request(body)
        check_request(signed, who.registration.request_key)
        self.requests[signed.request.id.hex()] = signed
        return 201, self.request_of(signed)

    def request_of(self, signed):
        asked = signed.request
        return {
            "id": asked.id.hex(), "taker": asked.taker.hex(), "instrument": asked.instrument.name,
            "wanted": asked.wanted.value, "quantity_centi_btc": asked.quantity, "state": "open",
            "valid_until_unix": asked.valid_until, "created_at_unix": 0, "signed": encode_signed_request(signed),
        }  # fmt: skip

    def get_requests(self, path, *_):
        if path == "/requests":
            return 200, {"items": [self.request_of(one) for one in self.requests.values()], "next_cursor": None}
        signed = self.requests[path.rpartition("/")[2]]
        book = self.get_book(f"/book/{signed.request.instrument.name}")[1]
        return 200, {"request": self.request_of(signed), "bids": [], "asks": book["asks"]}

    def delete_requests(self, path, *_):
        del self.requests[path.rpartition("/")[2]]
        return 200, {"id": path.rpartition("/")[2], "withdrawn": 2}

    def get_takes(self, *given):
        """List a take that failed, and those that were made here."""
        (fill,) = self.get_fills(*given)[1]["items"]
        failed = {
            "id": "f" * 64, "state": "failed", "fault": "maker", "problem": "no answer to its proposal in 20 s",
        }  # fmt: skip
        made = [{"id": one.take.id.hex(), "state": "taken", "fault": None, "problem": None} for one in self.takes]
        return 200, {"items": [fill | one for one in (failed, *made)], "next_cursor": None}

    def delete_takes(self, path, *_):
        self.takes = [one for one in self.takes if not path.endswith(one.take.id.hex())]
        return 200, {"state": "failed"}

    def get_positions(self, *_):
        return 200, {"items": [{"instrument": "BTC-29JAN27-60000-C", "role": "holder", "take_id": None,
                                "option": {"id": "t1", "state": "ACTIVE"}}], "next_cursor": None}  # fmt: skip

    def get_fills(self, _, __, ___, who):
        mine, other = who.registration.identity.hex(), "00" * 32
        return 200, {"items": [
            {"created_at_unix": 1_800_000_000, "instrument": "BTC-29JAN27-60000-C", "maker": mine, "taker": other,
             "side": "ask", "quantity_centi_btc": 5, "price_sats": 1_000_000, "price_cents": 70_000, "state": "funded",
             "option_id": "t1"}], "next_cursor": None}  # fmt: skip

    def get_settlements(self, path, *_):
        name = path.split("/")[2]
        if name not in self.settlements:
            return 404, {"detail": f"settlement {name!r}: not found"}
        settled, proof = self.settlements[name]
        return 200, proof if path.endswith("/proof") else settled

    def get_sign_ins(self, path, *_):
        times = {"created_at_unix": 1_800_000_000, "expires_at_unix": 1_800_000_300}
        return 200, {"code": path.rpartition("/")[2]} | times | self.browser

    def post_sign_ins(self, path, _, body, who):
        self.let_in.append((path.rpartition("/")[2], body, who.registration.identity))
        return 200, {"code": path.rpartition("/")[2], "digits": "48217730", "expires_at_unix": 1_800_000_300}

    def get_offers(self, *_):
        return 200, {"items": [], "next_cursor": None}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = 401, {"detail": "not signed by an account"}
        who = self._who(body)
        public = urlsplit(self.path).path.split("/")[3] in ("desk", "accounts", "chain", "book")
        if who is not None or public:
            status, answer = self.server.desk.answer(self.command, self.path, body, who)
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = _do  # noqa: N815 - the names that http.server asks for

    def _who(self, body):
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        if scheme != "BTCFi-Signature":
            return None
        said = dict(part.split("=") for part in rest.split(","))
        who = self.server.desk.accounts.get(bytes.fromhex(said["account"]))
        check_time("request", int(said["at"]), int(time.time()))
        digest = request_digest(
            desk=DESK, account=bytes.fromhex(said["account"]), method=self.command, target=self.path, body=body,
            at=int(said["at"]),
        )  # fmt: skip
        if who is None or not secp256k1.schnorr_verify(
            who.registration.request_key, digest, bytes.fromhex(said["signature"])
        ):
            return None
        return who


@contextmanager
def served(desk):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.desk = True, desk
    desk.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
