"""The market over HTTP: accounts, letters, instruments, books, offers, takes; each account sees its own things.

``routes.router`` has them all. What is signed is read by ``btcfi.market`` alone; the shapes here only document it.
"""
