"""Searches every byte that this process can read for parts of a key, and prints what it found where, as JSON.

The question comes in $QUESTION, also as JSON; the key in it is written backwards, so that neither the question nor
what carries it is an answer. Files that were last changed before the key was made can't have it, and are only counted."""

import base64
import json
import os
import re
import stat

QUESTION = json.loads(os.environ["QUESTION"])
KEY = QUESTION["backwards"][::-1].encode()
WINDOW = 12
NEEDLES = [KEY[i : i + WINDOW] for i in range(0, len(KEY) - WINDOW + 1, WINDOW // 2)]
NEEDLES += [KEY[i : i + WINDOW].hex().encode() for i in (0, 24, 48)]
NEEDLES += [base64.b64encode(KEY[i : i + 24])[:24] for i in (0, 1, 2)]
SKIPPED = set(QUESTION["skip"])
PIECE = 1 << 20
PAGE = os.sysconf("SC_PAGESIZE")
tally = {"searched": 0, "bytes": 0, "older": 0, "closed": 0, "found": []}


def search(path, read, size=None):
    """Piece by piece, with an overlap."""
    tail, done = b"", 0
    while size is None or done < size:
        data = read(PIECE if size is None else min(PIECE, size - done))
        if not data:
            break
        done += len(data)
        text = tail + data
        if any(n in text for n in NEEDLES):
            if path not in tally["found"]:
                tally["found"].append(path)
            break
        tail = text[-64:]
    tally["bytes"] += done


def file(path, limit=None):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        tally["closed"] += 1
        return
    try:
        search(path, lambda n: os.read(fd, n), limit)
        tally["searched"] += 1
    except OSError:
        tally["closed"] += 1
    finally:
        os.close(fd)


def process(pid):
    folder = "/proc/%s/" % pid
    for name in ("cmdline", "environ", "maps", "status", "stat", "mountinfo", "comm"):
        file(folder + name, 1 << 22)
    try:
        for fd in os.listdir(folder + "fd"):
            target = os.stat(folder + "fd/" + fd)
            if stat.S_ISREG(target.st_mode):
                file(folder + "fd/" + fd)
        mapped = open(folder + "maps").read()
        pages = os.open(folder + "pagemap", os.O_RDONLY)
        memory = os.open(folder + "mem", os.O_RDONLY)
    except OSError:
        tally["closed"] += 1
        return
    for start, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", mapped, re.M):
        for first, last in present(pages, int(start, 16), int(end, 16)):
            os.lseek(memory, first, os.SEEK_SET)
            try:
                search(folder + "mem", lambda n: os.read(memory, n), last - first)
            except OSError:
                tally["closed"] += 1
    tally["searched"] += 1
    os.close(pages)
    os.close(memory)


def present(pages, start, end):
    """The parts of a mapping that are in memory or swapped out; the rest is zeros, or a file."""
    first = None
    while start < end:
        count = min((end - start) // PAGE, 1 << 16)
        entries = os.pread(pages, count * 8, start // PAGE * 8)
        # bits 63 and 62 of a little-endian word of 64 (proc_pid_pagemap(5))
        for i, high in enumerate(entries[7::8]):
            if high & 0xC0:
                first = start + i * PAGE if first is None else first
            elif first is not None:
                yield first, start + i * PAGE
                first = None
        if len(entries) < count * 8:
            break
        start += count * PAGE
    if first is not None:
        yield first, start


def tree(root):
    for folder, folders, files in os.walk(root):
        if folder == "/":
            folders.remove("proc")
        folders[:] = [f for f in folders if os.path.join(folder, f) not in SKIPPED]
        for name in files:
            path = os.path.join(folder, name)
            try:
                about = os.lstat(path)
            except OSError:
                continue
            if path in SKIPPED or not stat.S_ISREG(about.st_mode):
                continue
            if max(about.st_ctime, about.st_mtime) < QUESTION["since"] and not path.startswith("/sys/"):
                tally["older"] += 1
            else:
                file(path, (1 << 16) if path.startswith("/sys/") else None)


for root in QUESTION["roots"]:
    if any(n in root.encode() for n in NEEDLES):
        tally["found"].append("a name")
    tree(root)
for name in os.listdir("/proc"):
    if name.isdigit():
        if int(name) != os.getpid() and int(name) not in QUESTION["skip_pids"]:
            process(name)
    elif os.path.isfile("/proc/" + name) and name not in ("kmsg", "kcore", "kpagecount", "kpageflags", "kpagecgroup"):
        file("/proc/" + name, 1 << 22)
print(json.dumps(tally))
