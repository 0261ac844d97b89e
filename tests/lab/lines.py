"""The lines of numbers.c: what each has to be when it arrives, and what the engine's files have of them."""

import calendar
import json
import re
import zlib
from typing import NamedTuple

FILLING = "abcdefghijklmnopqrstuvwxyz" * 4000
TERMINAL = "\x1b[31m\t\"\\\x01é€😀\x1b[2J\x1b[0m\r."
# Records have no colours; all else that a terminal would act on stays.
COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
NO_UTF8 = "\ufffd\ufffd\ufffd("
# kind -> what stands before the filling, and how many bytes it was when it was written
SPECIAL = {"n": ("", 0), "l": ("", 0), "a": (COLOURS.sub("", TERMINAL), len(TERMINAL.encode())), "u": (NO_UTF8, 4)}


class Line(NamedTuple):
    name: str
    stream: str
    number: int


def parse(message):
    """The line, if it is one of a writer's, to the last byte; None for everything else."""
    parts = message.split(" ", 6)
    if len(parts) != 7 or parts[0] != "W":
        return None
    _, name, stream, number, kind, length, rest = parts
    if kind not in SPECIAL or not number.isdigit() or not length.isdigit():
        return None
    rest = rest[:-1] if rest.endswith("\r") else rest   # of a terminal
    special, written = SPECIAL[kind]
    tail = f"~{number}"
    head = len(message) - len(parts[6])
    filling = max(0, int(length) - head - written - len(tail))
    if rest != special + FILLING[:filling] + tail:
        return None
    return Line(name, stream, int(number))


def fields(document):
    """((container.id, container.name), stream, @timestamp, message) of a record."""
    container = document.get("container") or {"id": document["container.id"], "name": document["container.name"]}
    return (container["id"], container["name"]), document["stream"], document["@timestamp"], document["message"]


TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z")
seconds = {}


def nanoseconds(text):
    """An RFC 3339 time in UTC as nanoseconds since 1970."""
    known = seconds.get(text[:19])
    if known is None:
        match = TIME.fullmatch(text)
        known = seconds[text[:19]] = calendar.timegm(tuple(int(match[i]) for i in range(1, 7)))
    fraction = text[20:-1]
    return known * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def stored(files):
    """What the engine's files of one container hold, oldest first: the numbers of each stream; what is no line of a writer's, as (stream, time, checksum); and
    the empty lines of each stream, as (the number before, time).

    An entry goes on with the one before it on its stream if that has the same time and no line feed."""
    numbers, strange, empty, last = {"o": set(), "e": set()}, set(), {"o": [], "e": []}, {"o": 0, "e": 0}
    open_lines = {}

    def close(letter):
        when, text = open_lines.pop(letter)
        text = COLOURS.sub("", text.removesuffix("\n"))
        line = parse(text)
        if line and line.stream == letter:
            numbers[letter].add(line.number)
            last[letter] = line.number
        elif text in ("", "\r"):
            empty[letter].append((last[letter], nanoseconds(when)))
        else:
            strange.add((letter, nanoseconds(when), zlib.crc32(text.encode())))

    for data in files:
        for entry in data.split(b"\n"):
            try:
                entry = json.loads(entry)
            except ValueError:
                continue
            letter = entry["stream"][3]
            if letter in open_lines and open_lines[letter][0] != entry["time"]:
                close(letter)
            when, before = open_lines.pop(letter, (entry["time"], ""))
            open_lines[letter] = (when, before + entry["log"])
            if entry["log"].endswith("\n"):
                close(letter)
    for letter in list(open_lines):
        close(letter)
    return numbers, strange, empty
