#!/usr/bin/env python3
"""Removes exports from a wasm module: strip_exports.py MODULE NAME...

Envoy calls each proxy-wasm callback that a module exports, and each call enters the VM. The SDK
exports all of them; those the filter has no use for cost every request for nothing. The functions
stay, only their names go (WebAssembly core specification 2.0, 5.5.10 export section).
"""

import sys

EXPORT_SECTION = 7


def read_leb(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def leb(value):
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def without(section, names):
    """The export section's content without `names`; each of them has to be there."""
    count, at = read_leb(section, 0)
    kept, missing = [], set(names)
    for _ in range(count):
        start = at
        length, at = read_leb(section, at)
        name = section[at : at + length].decode()
        _, at = read_leb(section, at + length + 1)
        if name in missing:
            missing.discard(name)
        else:
            kept.append(section[start:at])
    if missing:
        sys.exit(f"strip_exports: not exported: {', '.join(sorted(missing))}")
    return leb(len(kept)) + b"".join(kept)


def main(path, names):
    data = open(path, "rb").read()
    if data[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"strip_exports: {path} is not a wasm module of version 1")
    out, at = bytearray(data[:8]), 8
    while at < len(data):
        section_id = data[at]
        size, start = read_leb(data, at + 1)
        section, at = data[start : start + size], start + size
        if section_id == EXPORT_SECTION:
            section = without(section, names)
        out += bytes([section_id]) + leb(len(section)) + section
    open(path, "wb").write(out)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
