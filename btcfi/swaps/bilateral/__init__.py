"""A weekly swap between two parties, each with its margin in an output of its own: settled, released or burned.

    M_T, M_L   RM + 240 + 1,000 sat each: the taker's and the provider's
    SETTLE     of the debtor's, from the settlement time on: its debit to the creditor, the rest back
    BURN       of the debtor's, at once: its debit and RM/4 to nobody; the creditor has no output in it
    RELEASE    of the creditor's, at once: all of it back
    RETURN     of either, nine days after the settlement time, by its owner alone

All but the last are pre-signed under the week's attested return before its start price exists, and completed by the
attestation alone. Not having signed and funded by then is the cancel.
"""
