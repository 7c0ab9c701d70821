"""A node that lies, stalls or breaks off: each is named, nothing is lost."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from btcfi.adapters.chain.node import (
    FeeTooLowError,
    InputsSpentError,
    Node,
    NodeAnswerError,
    NodeLiesError,
    NodeUnreachableError,
    NotFinalError,
    TxRejectedError,
    rejection,
)
from btcfi.bitcoin.transaction import OutPoint, Transaction, TxIn, TxOut
from btcfi.errors import InvalidInputError, UnitOutOfRangeError, UnreachableError
from btcfi.surfaces.status import status_of
from btcfi.units import Sats, Txid

PAYMENT = Transaction(
    version=2,
    inputs=(TxIn(outpoint=OutPoint(txid=Txid(bytes(32)), index=0)),),
    outputs=(TxOut(value=Sats(1_000), script=b"\x51" * 22),),
)


class Liar(ThreadingHTTPServer):
    """Answers each request with the next of its scripted answers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests = [], []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        self.server.requests.append(request)
        answer = self.server.answers.pop(0)
        if answer == "hang up":
            self.close_connection = True
            return
        if answer == "stall":
            threading.Event().wait(1.0)
            self.close_connection = True
            return
        if callable(answer):
            answer = answer(request)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def liar():
    server = Liar()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server, Node(f"http://u:p@127.0.0.1:{server.server_address[1]}", 0.3)
    server.shutdown()
    server.server_close()
    thread.join()


def ok(result):
    return {"result": result, "error": None, "id": 0}


def failed(code, message):
    def answer(request):
        error = {"result": None, "error": {"code": code, "message": message}}
        return [error | {"id": one["id"]} for one in request] if isinstance(request, list) else error | {"id": 0}

    return answer


def test_a_node_that_is_not_there_is_unreachable_and_says_what_to_try():
    node = Node("http://user:secret@127.0.0.1:1", 1)
    with pytest.raises(NodeUnreachableError) as error:
        node.block_count()
    assert isinstance(error.value, UnreachableError)
    assert "127.0.0.1:1" in str(error.value)
    assert "secret" not in str(error.value)
    assert status_of(error.value).exit_code == 69


@pytest.mark.parametrize("answer", ["stall", "hang up", b"<html>busy</html>", b"{}", b"[]", b"\xff\xfe"])
def test_a_node_that_stalls_or_answers_no_json_rpc_is_unreachable(liar, answer):
    server, node = liar
    server.answers += [answer, answer]
    with pytest.raises(NodeUnreachableError):
        node.block_count()


def test_after_a_broken_connection_the_next_call_works(liar):
    server, node = liar
    server.answers += [ok(5), "hang up", ok(6), ok(7)]
    assert node.block_count() == 5
    assert node.block_count() == 6  # the idle connection was closed: asked again on a new one
    assert node.block_count() == 7


def test_a_starting_node_counts_as_unreachable_for_now(liar):
    server, node = liar
    server.answers.append(failed(-28, "Loading block index…"))
    with pytest.raises(NodeUnreachableError):
        node.block_count()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-27, "Transaction outputs already in utxo set"),
        (-27, "Transaction already in block chain"),
        (-26, "txn-already-in-mempool"),
        (-26, "txn-already-known"),
    ],
)
def test_what_the_node_knows_already_is_success(liar, code, message):
    server, node = liar
    server.answers.append(failed(code, message))
    assert node.send(PAYMENT) == PAYMENT.txid


def test_a_timeout_in_mid_broadcast_is_unreachable_and_the_second_try_succeeds(liar):
    server, node = liar
    server.answers += ["stall", failed(-27, "Transaction outputs already in utxo set")]
    with pytest.raises(NodeUnreachableError):
        node.send(PAYMENT)
    assert node.send(PAYMENT) == PAYMENT.txid
    assert len(server.requests) == 2


def test_missing_inputs_of_a_transaction_that_the_chain_holds_is_success(liar):
    server, node = liar
    found = ok({"hex": PAYMENT.to_bytes().hex(), "confirmations": 3, "blockhash": "00" * 32})
    server.answers += [failed(-25, "bad-txns-inputs-missingorspent"), found]
    assert node.send(PAYMENT) == PAYMENT.txid
    server.answers += [failed(-25, "bad-txns-inputs-missingorspent"), failed(-5, "No such transaction")]
    with pytest.raises(InputsSpentError):
        node.send(PAYMENT)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("bad-txns-inputs-missingorspent", InputsSpentError),
        ("non-final", NotFinalError),
        ("non-BIP68-final", NotFinalError),
        ("min relay fee not met, 1 < 2", FeeTooLowError),
        ("insufficient fee, rejecting replacement", FeeTooLowError),
        ("dust", TxRejectedError),
    ],
)
def test_a_refusal_is_of_its_kind_and_keeps_the_nodes_words(reason, kind):
    error = rejection(PAYMENT.txid, -26, reason)
    assert type(error) is kind
    assert error.reason == reason
    assert PAYMENT.txid[::-1].hex() in str(error)


def test_an_answer_about_something_else_is_not_taken_for_a_refusal(liar):
    server, node = liar
    server.answers.append(failed(-32601, "Method not found"))
    with pytest.raises(NodeAnswerError):
        node.send(PAYMENT)


def test_a_transaction_that_is_not_the_one_asked_for_is_a_lie(liar):
    server, node = liar
    server.answers.append(ok({"hex": PAYMENT.to_bytes().hex(), "confirmations": 3, "blockhash": "00" * 32}))
    with pytest.raises(NodeLiesError, match=f"hashes to {PAYMENT.txid[::-1].hex()}"):
        node.transaction(Txid(bytes(32)))


def test_of_several_transactions_the_good_ones_are_kept(liar):
    server, node = liar

    def answer(request):
        return [
            {"result": "ok", "error": None, "id": 0},
            {"result": None, "error": {"code": -26, "message": "dust"}, "id": 1},
        ][: len(request)]

    server.answers.append(answer)
    first, second = node.try_send_many([PAYMENT, PAYMENT])
    assert first == PAYMENT.txid
    assert isinstance(second, TxRejectedError)


def test_amounts_are_exact_and_impossible_ones_are_refused(liar):
    server, node = liar

    def with_value(text):
        inner = f'{{"value":{text},"confirmations":1,"coinbase":false,"scriptPubKey":{{"hex":"51"}}}}'
        return f'[{{"result":{inner},"error":null,"id":0}}]'.encode()

    server.answers += [with_value("20999999.99999999"), with_value("0.1"), with_value("1e-8")]
    values = [node.unspent(PAYMENT.outpoint(0)).output.value for _ in range(3)]
    assert values == [2_099_999_999_999_999, 10_000_000, 1]
    server.answers += [with_value("0.000000001"), with_value("-1"), with_value("21000000.00000001")]
    with pytest.raises(InvalidInputError):
        node.unspent(PAYMENT.outpoint(0))
    for _ in range(2):
        with pytest.raises(UnitOutOfRangeError):
            node.unspent(PAYMENT.outpoint(0))


@pytest.mark.parametrize("url", ["", "127.0.0.1:18443", "https://h:1", "http://h", "ftp://h:1"])
def test_a_url_that_is_not_a_nodes_is_refused(url):
    with pytest.raises(InvalidInputError):
        Node(url, 1)
