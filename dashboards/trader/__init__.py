"""The trader's desk: the public market, any contract checked, an account's own things. No key comes here."""
