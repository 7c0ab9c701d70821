"""One-time keys of a claimant, and the ledger without which they are not used: what they say is written down first.

    disputes/words/KEYS   a file for each claimant's set of one-time keys: of which contract, and what each word says

**Two signatures of different words under one key give the contract away.** The row names the keys and not the contract
alone, stands before the first link is made, is one file and so is there whole or not at all, and is never written over:
after a restart, at a second terminal or with other prices the same is said again, or nothing. What no row can stop: a
folder that was restored from a copy older than its row has the keys without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from btcfi.adapters.party.dispute_files import DisputeFiles
from btcfi.disputes.leaves.words import Signed, WordKey, digits_of

LEDGER: Final = "words"


def sign_words(
    files: DisputeFiles, name: str, keys: Mapping[str, WordKey], values: Mapping[str, int]
) -> dict[str, Signed]:  # fmt: skip
    """Return the signatures of a claim's words, having written down what they say.

    name: the contract's, as hex. values: of each key. Raises OtherMessageError where these keys have said something
    else, or are another contract's; InvalidInputError for a value that does not fit, before anything is written.
    """
    for word, key in keys.items():
        digits_of(values[word], key.digits)
    ends = hashlib.sha256(b"".join(end for word in sorted(keys) for end in keys[word].word.ends))
    files.row(LEDGER, ends.hexdigest(), {"contract": name, "said": {one: values[one] for one in keys}}, name)
    return {word: key.sign(values[word]) for word, key in keys.items()}
