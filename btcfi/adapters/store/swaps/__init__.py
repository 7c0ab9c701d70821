"""Weekly swaps in the store: contracts, prices, books and their subcontracts, balances, and what settled each week."""
