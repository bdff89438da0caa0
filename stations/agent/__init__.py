"""The program on a counter machine: no Django, no database, no key; it serves a reader."""

VERSION = "1.0"
