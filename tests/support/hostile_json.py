"""Hostile values for every place of a JSON message, made from the valid one: a new field is picked up by itself."""

import copy
import json
import string
from functools import reduce

FREE = {"option", "funding_witnesses", "rates"}
"""Objects whose names are no fields."""

DEEP = 100_000
ARABIC = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")
WIDE = str.maketrans("0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19")
OFF_THE_CURVE = "02" + "00" * 31 + "05"
"""A compressed point's form, of an x without a y: 5**3 + 7 is no square."""

ANYWHERE = {
    "null": None, "true": True, "nothing": "", "no list": [], "no object": {}, "negative": -1, "half": 0.5,
    "beyond 64 bits": 1 << 64, "beyond 256 bits": 1 << 256, "beyond a float": 10**400, "half a character": "\ud800",
    "in a list": [[[]]], "a thousand": [0] * 1_000, "NaN in words": "NaN", "long": "0" * 1_000_001,
}  # fmt: skip


def places(value, at=()):
    """Every place inside a JSON value, of a list the first item's; inside an object whose names are free, none."""
    items = value.items() if isinstance(value, dict) else [*enumerate(value)][:1] if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key)) if key not in FREE else ()


def inside(value, at):
    return reduce(lambda outer, key: outer[key], at, value)


def changed(value, at, new):
    made = copy.deepcopy(value)
    inside(made, at[:-1])[at[-1]] = new
    return made


def lacking(value, at):
    made = copy.deepcopy(value)
    del inside(made, at[:-1])[at[-1]]
    return made


def spelled(start, at):
    return start + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)


def of_a_number(number):
    return {
        "negated": -number - 1, "as text": str(number), "as a float": float(number), "with commas": f"{number:,}",
        "in Arabic digits": str(number).translate(ARABIC), "in hexadecimal": hex(number), "underlined": f"{number}_0",
        "as an exponent": f"{number}e0", "as a list": [number],
    }  # fmt: skip


def of_a_text(text):
    made = {
        "backwards": text[::-1], "spaced": text[:2] + " " + text[2:], "with an end of line": text + "\n",
        "with a zero": text + "\0", "upper": text.upper(), "a digit less": text[:-1], "a byte less": text[:-2],
        "a byte more": text + "00", "marked": "0x" + text, "in wide digits": text.translate(WIDE), "as a list": [text],
        "as a number": 7, "no hex": "zz" * (len(text) // 2),
    }  # fmt: skip
    if len(text) == 66 and set(text) <= set(string.hexdigits):
        made["off the curve"] = OFF_THE_CURVE
    if text.endswith("="):
        made["other spare bits"] = text[:-3] + ("B" if text[-3] != "B" else "C") + text[-2:]
    if len(text) >= 64:
        made["zero"] = "0" * len(text)
    return made


def of_a_list(many):
    return {"twice": [*many, *many], "one less": many[1:], "in itself": [many], "as an object": {"0": many}}


def hostile(value):
    """label -> hostile value in the place of one that is right; never what stands there."""
    own = (
        {} if isinstance(value, bool) else of_a_number(value) if isinstance(value, int)
        else of_a_text(value) if isinstance(value, str) else of_a_list(value) if isinstance(value, list) else {}
    )  # fmt: skip
    return {
        label: wrong for label, wrong in (ANYWHERE | own).items() if wrong != value or type(wrong) is not type(value)
    }


def hostile_values(message):
    """(path, label, message with a hostile value there)."""
    for at in places(message):
        for label, wrong in hostile(inside(message, at)).items():
            yield at, label, changed(message, at, wrong)


RAW = {
    "NaN": "NaN", "infinity": "Infinity", "minus infinity": "-Infinity", "beyond every number": "1e999",
    "leading zero": "01", "plus": "+1", "underlined": "1_000", "Arabic digits": "\u0661", "hexadecimal": "0x10",
    "no value": "", "two values": "1 2", "no closing quote": '"', "deep": "[" * DEEP, "deep object": '{"a":' * DEEP,
    "deep and closed": "[" * DEEP + "]" * DEEP, "ten thousand digits": "9" * 10_000,
}  # fmt: skip
"""What no JSON parser, or not every one, takes in a value's place."""

MARK = "\x01here\x01"


def hostile_texts(message, labels=None):
    """(label, bytes): no JSON that every parser reads alike, in each place of the message, and around it."""
    for at in places(message):
        text = json.dumps(changed(message, at, MARK))
        for label in labels or RAW:
            if label == "no value" and isinstance(at[-1], int):
                continue  # an empty list is JSON
            yield f"{spelled('', at)} {label}", text.replace(json.dumps(MARK), RAW[label]).encode()
    for at in [(), *places(message)]:
        if isinstance(inside(message, at), dict):
            yield f"{spelled('', at)} a key twice", _a_key_twice(message, at)
    text = json.dumps(message).encode()
    yield from {
        "bytes after": text + b"x", "a second message after": text + text, "a zero after": text + b"\0",
        "nothing": b"", "a byte less": text[:-1], "a mark before": b"\xef\xbb\xbf" + text,
        "UTF-16": json.dumps(message).encode("utf-16"), "no UTF-8": text[:-1] + b"\xff}", "not an object": b"[1]",
    }.items()  # fmt: skip


def _a_key_twice(message, at):
    wanted = inside(message, at)
    if not wanted:
        return b'{"a": 1, "a": 1}'
    key = next(iter(wanted))
    body = json.dumps(wanted)
    twice = "{" + f"{json.dumps(key)}: {json.dumps(wanted[key])}, " + body[1:]
    return (json.dumps(changed(message, at, MARK)).replace(json.dumps(MARK), twice) if at else twice).encode()
