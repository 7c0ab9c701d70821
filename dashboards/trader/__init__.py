"""The trader's desk: the public market, and any contract checked for whoever asks. No account and no key comes here."""
