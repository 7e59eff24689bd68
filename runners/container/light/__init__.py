"""What replaces slow parts of the standard library at a cold start; each says what it replaces and what that saves.

The milliseconds are the lowest of thirty ``python3 -I -S -X importtime -c "import ..."`` of Python 3.11, where a cold
start takes 28 ms. What saves less than half of one is not worth a module of its own.
"""
