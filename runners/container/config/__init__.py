"""``config.json`` becomes a Bundle, and what is written where nobody has one."""
