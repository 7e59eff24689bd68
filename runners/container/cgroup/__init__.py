"""Control groups of both versions: where they are, what is written into them and read out of them."""
