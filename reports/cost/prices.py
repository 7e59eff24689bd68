"""Price books: dated data files that say what machines cost, and how use is billed (scenarios/prices/*.toml)."""

from __future__ import annotations

import datetime as dt
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tare.bench.errors import UsageError
from tare.bench.records import inputs

HOURS_A_YEAR = 8766.0
_MIB = 2.0**20
_MOST_BYTES = 256 * 1024

Money = Annotated[float, Meta(ge=0)]


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine of a menu."""

    name: str
    cpus: Annotated[int, Meta(ge=1)]
    memory_mib: Annotated[int, Meta(ge=1)]
    price_per_hour: Money


class OwnHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owned machine: its price over its life, and what it draws."""

    purchase: Money
    lifetime_years: Annotated[float, Meta(gt=0)]
    power_watts: Money
    price_per_kwh: Money

    @property
    def price_per_hour(self) -> float:
        """What an hour of it costs, used or not."""
        return self.purchase / (self.lifetime_years * HOURS_A_YEAR) + self.power_watts / 1000 * self.price_per_kwh


class Book(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price book. ``example`` is not empty when its prices are made up; ``reserve_mib`` is what a machine keeps."""

    schema: Literal[1]
    kind: Literal["menu", "host"]
    title: str
    dated: dt.date
    currency: str
    example: str = ""
    source: Annotated[tuple[str, ...], Meta(min_length=1)]
    increment_s: Annotated[float, Meta(gt=0)]
    minimum_s: Annotated[float, Meta(ge=0)]
    reserve_mib: Annotated[int, Meta(ge=0)] = 0
    sizes: tuple[Size, ...] = ()
    host: OwnHost | None = None

    def machines(self, host_memory_bytes: int, host_cpus: int) -> tuple[Size, ...]:
        """What can be had: the menu, or the measured host as a menu of one."""
        if self.host is None:
            return self.sizes
        memory = int(host_memory_bytes / _MIB)
        price = self.host.price_per_hour
        return (Size(name="this host", cpus=host_cpus, memory_mib=memory, price_per_hour=price),)

    def capacity_bytes(self, size: Size) -> float:
        """What instances may take of one machine."""
        return max(0.0, (size.memory_mib - self.reserve_mib) * _MIB)

    def billed_seconds(self, lived_s: float) -> float:
        """The seconds that are billed for a machine that lived so long."""
        return max(self.minimum_s, math.ceil(lived_s / self.increment_s) * self.increment_s)


def shipped() -> dict[str, Path]:
    """The price books that come with tare: name -> file."""
    files = (Path(str(file)) for file in resources.files("tare.scenarios").joinpath("prices").iterdir())
    return {file.stem: file for file in sorted(files) if file.suffix == ".toml"}


def load(path: Path) -> Book:
    """Read and validate a price book. Raises UsageError."""
    text = inputs.text(path, most=_MOST_BYTES, fix="give a price book (*.toml)")
    with inputs.parsing(f"{path} is not a valid price book", "correct that key"):
        book = msgspec.convert(tomllib.loads(text), Book)
    if (book.kind == "host") != (book.host is not None) or (book.kind == "menu") != bool(book.sizes):
        why = f'kind is "{book.kind}": a menu needs [[sizes]] and no [host], a host needs [host] and no [[sizes]]'
        raise UsageError(f"{path} is not a valid price book", why, "correct kind, or the tables")
    return book
