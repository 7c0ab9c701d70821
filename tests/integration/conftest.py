"""Processes of tests hear Ctrl-C also where the tests themselves run in the background of a script.

A shell lets what it starts with ``&`` ignore SIGINT, and whatever that starts would inherit it.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
