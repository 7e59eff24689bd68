"""The steps of the set-up, each a frozen value: what it does in words, and doing it."""
