#!/usr/bin/env python3
"""Runs the benchmarks, and writes their tables into benches/README.md and charts beside it.

Needs valgrind, nginx and redis-server. Without arguments all of them, which takes about half an hour;
else those that are named: instructions, mentions, certificates, early, first_byte, register, redis, handshake, store,
mixes, ends, nginx. `check` counts instructions, writes nothing, and fails if resumption, early data, a verdict that is
remembered, or a hello that is made to be dear, has become dearer.
"""

import csv
import html
import io
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import xml.etree.ElementTree

sys.dont_write_bytecode = True
import beside_nginx

HERE = pathlib.Path(__file__).parent
# The highest ratio, of instructions to those of what it is compared with, that is meant to be.
LIMITS = {
    # Of the first 0.3 % are the lineage in each session.
    "stateful": {"tls12": 1.105, "tls13": 1.03, "tls12_certificate": 1.06, "tls13_certificate": 1.05},
    "stateless": {"tls12": 1.02, "tls13": 1.02},
}
# The same for one hello that mentions a session as often as it can.
LIMIT_OF_MENTIONS = 3
# Of a resumption with a remembered verdict on the client's certificate to the same without one.
LIMIT_OF_VERDICT = 1.01
# Of a request as early data to one after the handshake, and of the callback that asks the register to the whole.
LIMIT_OF_EARLY = 1.08
LIMIT_OF_REGISTER = 0.01
# What the allocator and the OpenSSL at hand may add.
SLACK = 0.005
# Before one thread spoke with Redis on connections that all share: what `redis` is compared with.
BEFORE = "6fda5b1"
# How often `redis` measures both, one right after the other; ratios are taken within a round.
ROUNDS_OF_REDIS = 9
# How often `handshake` measures all servers; ratios are taken within a round.
ROUNDS = 60
NAMES = {
    "internal": "OpenSSL's cache",
    "der": "plain DER cache",
    "tickets": "OpenSSL's tickets",
    "stateful": "**stateful**",
    "stateless": "**stateless**",
    "hybrid": "**hybrid**",
}
CLIENTS = {"alone": "", "intermediate": ", intermediate CA", "140 CAs": ", a store of 140 CAs"}
WAYS = {"Full": "full handshake", "Resumed": "resumed", "Early": "resumed with early data"}
CASES = {
    "tls12": "TLS 1.2",
    "tls13": "TLS 1.3",
    "tls12_certificate": "TLS 1.2, client certificate",
    "tls13_certificate": "TLS 1.3, client certificate",
}


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def bench(name, *args, features=""):
    return run("cargo", "bench", "--locked", "--quiet", "--features", features, "--bench", name, "--", *args)


def built(name, *, features="", folder=None):
    """The program of a benchmark, of the library in this folder."""
    command = ["cargo", "bench", "--locked", "--quiet", "--features", features, "--bench", name, "--no-run"]
    made = subprocess.run(
        [*command, "--message-format", "json"], check=True, stdout=subprocess.PIPE, text=True, cwd=folder
    ).stdout
    made = [json.loads(line).get("executable") for line in made.splitlines()]
    return next(path for path in made if path)


def target():
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--no-deps"))
    return pathlib.Path(metadata["target_directory"])


def table(head, rows):
    lines = [head, ["---"] + ["--:"] * (len(head) - 1)] + rows
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def chart(path, title, figures, digits=0):
    """Bars in groups: `figures` is {group: {server: number}}; each group is drawn to its own scale."""
    others, ours = ["#9aa5b1", "#7b8794", "#52606d", "#cbd2d9"], ["#1f78b4", "#33a02c", "#ff7f00"]
    row, left, width = 16, 190, 360
    parts, y = [], 30
    for group, numbers in figures.items():
        parts.append(f'<text x="8" y="{y + 12}" font-weight="bold">{html.escape(group)}</text>')
        y += row + 4
        greys, colours = iter(others), iter(ours)
        for server, number in numbers.items():
            bar = width * number / max(numbers.values())
            colour = next(colours if "**" in server else greys)
            name = html.escape(server.strip("*`"))
            parts.append(
                f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{name}</text>'
                f'<rect x="{left}" y="{y + 2}" width="{bar:.0f}" height="{row - 4}" fill="{colour}"/>'
                f'<text x="{left + bar + 6:.0f}" y="{y + 12}">{number:,.{digits}f}</text>'
            )
            y += row
        y += 8
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{y + 8}" '
        f'font-family="sans-serif" font-size="12" fill="#1f2933">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="8" y="16">{html.escape(title)} (each group to its own scale)</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
    xml.etree.ElementTree.fromstring(svg)
    path.write_text(svg)


def base(server):
    """What a server is compared with."""
    return "tickets" if server in ("tickets", "stateless", "hybrid") else "internal"


def count_instructions(handshakes):
    rows = list(csv.DictReader(io.StringIO(bench("instructions", str(handshakes)))))
    return {case: {row["server"]: int(row[case]) / 1000 for row in rows} for case in CASES}


def instructions():
    figures, title = count_instructions(100), "thousands of instructions"
    bars = {
        CASES[case]: {NAMES[server]: number for server, number in numbers.items()}
        for case, numbers in figures.items()
    }
    chart(HERE / "instructions.svg", title, bars)
    rows = [
        [label]
        + [f"{numbers[server]:,.0f} ({numbers[server] / numbers[base(server)]:.3f})" for numbers in figures.values()]
        for server, label in NAMES.items()
    ]
    return table([title] + list(CASES.values()), rows) + f"\n\n![{title}](instructions.svg)"


def check():
    figures = count_instructions(30)
    dear = []
    for server, limits in LIMITS.items():
        for case, limit in limits.items():
            ratio = figures[case][server] / figures[case][base(server)]
            print(f"{server}, {CASES[case]}: {ratio:.4f} of {NAMES[base(server)]}, at most {limit} + {SLACK}")
            if ratio > limit + SLACK:
                dear.append(f"{server}, {CASES[case]}")
    for row in count_mentions():
        print(f"one hello, {row['policy']}, {row['client']}: {row['ratio']:.2f}, at most {LIMIT_OF_MENTIONS}")
        if row["ratio"] > LIMIT_OF_MENTIONS:
            dear.append(f"one hello, {row['policy']}, {row['client']}")
    for row in count_certificates("5"):
        where, ratio = f"{row['mode']}, {client_of(row)}", row["verify"] / row["resume"]
        print(f"a remembered verdict, {where}: {ratio:.4f} of a resumption without, at most {LIMIT_OF_VERDICT}")
        if ratio > LIMIT_OF_VERDICT:
            dear.append(f"a remembered verdict, {where}")
    for row in count_early("10", "stateful", "stateless"):
        ratio, share = row["early"] / row["late"], row["callback"] / row["early"]
        print(f"early data, {row['server']}: {ratio:.4f} of a resumption without, at most {LIMIT_OF_EARLY}")
        print(f"the register, {row['server']}: {share:.2%} of it, at most {LIMIT_OF_REGISTER:.0%}")
        if ratio > LIMIT_OF_EARLY or share > LIMIT_OF_REGISTER:
            dear.append(f"early data, {row['server']}")
    if dear:
        raise SystemExit(f"dearer than it is to be: {'; '.join(dear)}")


def count_mentions():
    rows = list(csv.DictReader(io.StringIO(bench("mentions"))))
    return [row | {"ratio": int(row["instructions"]) / int(row["baseline"])} for row in rows]


def mentions():
    figures = {}
    for row in count_mentions():
        text = f"{int(row['instructions']) / 1000:,.0f} ({row['ratio']:.2f})"
        figures.setdefault(row["policy"], {})[row["client"]] = text
    rows = [[f"**{policy}**"] + list(texts.values()) for policy, texts in figures.items()]
    return table(["thousands of instructions", "anonymous client", "client with a certificate"], rows)


def count_certificates(*args):
    rows = csv.DictReader(io.StringIO(bench("certificates", *args)))
    return [row | {what: int(row[what]) for what in ("full", "look", "resume", "verify")} for row in rows]


def client_of(row):
    return CASES[row["version"]] + CLIENTS[row["client"]]


def certificates():
    """Three tables: instructions, times, and the bytes of hellos."""
    counts = {}
    for row in count_certificates():
        text = f"{row['verify'] / 1000:,.0f} ({row['verify'] / row['resume']:.4f})"
        look = f"{row['look'] / 1000:,.0f} ({row['look'] / row['full']:.2f})"
        counts.setdefault(NAMES[row["mode"]], {})[client_of(row)] = f"{text}, {look}"
    head = ["thousands of instructions: remembered, a look", *next(iter(counts.values()))]
    tables = [table(head, [[mode, *texts.values()] for mode, texts in counts.items()])]
    rows = [
        [client_of(row), row["full"], row["resumed"], f"{row['look']} ({int(row['look']) / int(row['full']):.2f})"]
        for row in csv.DictReader(io.StringIO(bench("certificates", "times")))
    ]
    tables.append(table(["microseconds", "full handshake", "resumed without a look", "a look"], rows))
    hellos = {}
    for row in csv.DictReader(io.StringIO(bench("certificates", "hellos"))):
        text = f"{int(row['without']):,} to {int(row['with']):,}"
        hellos.setdefault(NAMES[row["mode"]], {})[CASES[row["version"]]] = text
    head = ["bytes of a ClientHello, without a session and with", *next(iter(hellos.values()))]
    tables.append(table(head, [[mode, *texts.values()] for mode, texts in hellos.items()]))
    return "\n\n".join(tables)


def count_early(*args):
    rows = csv.DictReader(io.StringIO(bench("early", *args)))
    return [row | {way: int(row[way]) for way in ("late", "early", "callback")} for row in rows]


def early():
    names = NAMES | {"single use": "**stateful, single use**"}
    rows = [
        [names[row["server"]], f"{row['late'] / 1000:,.0f}"]
        + [f"{row['early'] / 1000:,.0f} ({row['early'] / row['late']:.3f})"]
        + [f"{row['callback'] / 1000:.1f} ({row['callback'] / row['early']:.2%})" if row["callback"] else ""]
        for row in count_early()
    ]
    return table(["thousands of instructions", "request after the handshake", "as early data", "to decide"], rows)


def first_byte():
    lines = {}
    for row in csv.DictReader(io.StringIO(bench("first_byte"))):
        text = f"{float(row['median']):.0f} ({float(row['least']):.0f}–{float(row['most']):.0f})"
        lines.setdefault(row["server"], {})[WAYS[row["way"]]] = text
    rows = [[server, *texts.values()] for server, texts in lines.items()]
    return table(["milliseconds", *WAYS.values()], rows) + f"\n\n{beside_nginx.version()}."


def register():
    rows = list(csv.DictReader(io.StringIO(bench("register", features="redis"))))
    rows = [[row.pop("register")] + [f"{float(number):,.0f}" if number else "" for number in row.values()] for row in rows]
    head = ["calls a second", "1 thread", "2 threads", "us of Redis a call"]
    return table(head, rows) + f"\n\n{redis_version()}."


def redis_version():
    return run("redis-server", "--version").split()[2].replace("v=", "redis-server ")


def redis_programs():
    """The same benchmark with the version before, and with this one."""
    # In a place of its own, but the same each time: nothing is built twice.
    before = target() / "before"
    shutil.rmtree(before, ignore_errors=True)
    before.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", BEFORE], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", before], check=True, input=archive)
    # In place of one that it has.
    shutil.copy(HERE / "redis.rs", before / "benches" / "register.rs")
    return [built("register", features="redis", folder=before), built("redis", features="redis")]


def redis():
    """Two tables: lookups, and resumed handshakes beside those with a MemoryStore."""
    programs = redis_programs()

    def measured(*args):
        return [list(csv.DictReader(io.StringIO(run(program, *args)))) for program in programs]

    what = ["a second", "p50", "p99", "cpu"]
    rows = []
    for threads in ("1", "16", "256"):
        rounds = [[lines[0] for lines in measured("lookups", threads)] for _ in range(ROUNDS_OF_REDIS)]
        before, now = [[statistics.median(float(r[i][figure]) for r in rounds) for figure in what] for i in (0, 1)]
        ratios = [statistics.median(float(r[1][figure]) / float(r[0][figure]) for r in rounds) for figure in what]
        name = f"{threads} at a time"
        rows.append([f"{name}, before"] + [f"{number:,.0f}" for number in before])
        rows.append([f"{name}, **now**"] + [f"{number:,.0f} ({ratio:.2f})" for number, ratio in zip(now, ratios)])
    tables = [table(["lookups", "a second", "p50 us", "p99 us", "us of CPU each"], rows)]
    rows = []
    for threads in ("16", "256"):
        before, now = ({(row["version"], row["store"]): row for row in lines} for lines in measured("handshakes", threads))
        for version in ("tls12", "tls13"):
            of = [now[version, "memory"], before[version, "redis"], now[version, "redis"]]
            texts = [f"{float(row['a second']):,.0f}" for row in of]
            shares = [""] + [f" ({float(row['ratio']):.2f})" for row in of[1:]]
            rows.append(
                [f"{CASES[version]}, {threads} at a time"]
                + [text + share for text, share in zip(texts, shares)]
                + [f"{float(row['cpu']):,.0f}" for row in of]
            )
    head = ["resumed handshakes", "MemoryStore", "Redis, before", "**Redis, now**"]
    head += [f"us of CPU each, {store}" for store in ("MemoryStore", "before", "now")]
    tables.append(table(head, rows))
    return "\n\n".join(tables) + f"\n\n{redis_version()}."


def handshake():
    criterion = target() / "criterion"
    names = NAMES | {"again": "OpenSSL's cache, again"}

    def median(case, server):
        estimates = criterion / case / server / "new" / "estimates.json"
        return json.loads(estimates.read_text())["median"]["point_estimate"]

    def measured(number):
        os.environ["ROUND"] = str(number)
        bench("handshake", "--noplot")
        return {case: {server: median(case, server) for server in names} for case in CASES}

    rounds = [measured(number) for number in range(ROUNDS)]
    # Between which a half of the rounds lie, and the one in the middle.
    quartiles = {
        case: {
            server: statistics.quantiles(r[case][server] / r[case][base(server)] for r in rounds)
            for server in names
        }
        for case in CASES
    }
    title = "times, by those of what it is compared with"
    bars = {
        CASES[case]: {names[server]: middle for server, (_, middle, _) in ratios.items()}
        for case, ratios in quartiles.items()
    }
    chart(HERE / "handshake.svg", title, bars, digits=2)
    rows = [
        [label]
        + ["{1:.2f} ({0:.2f} to {2:.2f})".format(*ratios[server]) for ratios in quartiles.values()]
        for server, label in names.items()
        if base(server) != server
    ]
    return table([title] + list(CASES.values()), rows) + f"\n\n![{title}](handshake.svg)"


def store():
    rows = list(csv.DictReader(io.StringIO(bench("store"))))
    most = max(int(row["sessions"]) for row in rows)
    bars = {
        figure: {
            row["store"]: int(row[figure])
            for row in rows
            if int(row["sessions"]) == most and row[figure]
        }
        for figure in ("pair ns", "pair ns of 2 threads", "bytes each")
    }
    title = f"Stores of {most:,} sessions"
    chart(HERE / "store.svg", title, bars)
    return table(list(rows[0]), [list(row.values()) for row in rows]) + f"\n\n![{title}](store.svg)"


def mixes():
    """A row for each kind of clients, a column for each store and version."""
    rows = list(csv.DictReader(io.StringIO(bench("store", "mixes"))))
    columns = list(dict.fromkeys((row["store"], row["version"]) for row in rows))
    lines = {}
    for row in rows:
        lines.setdefault(row["clients"], []).append(row["percent"])
    head = ["of 100 visits resume"] + [f"{store}, {version}" for store, version in columns]
    return table(head, [[clients, *percents] for clients, percents in lines.items()])


def ends():
    rows = list(csv.DictReader(io.StringIO(bench("store", "ends"))))
    return table(list(rows[0]), [list(row.values()) for row in rows])


def nginx():
    times = beside_nginx.compare(built("loopback"))
    rows = [
        [NAMES.get(server, server)]
        + [f"{time[len(time) // 2]:,.0f} ({time[0]:,.0f}–{time[-1]:,.0f})" for time in versions.values()]
        for server, versions in times.items()
    ]
    head = ["microseconds of the server's CPU"] + list(beside_nginx.VERSIONS)
    return table(head, rows) + f"\n\n{beside_nginx.version()}."


def machine():
    models = [
        line.split(":")[1].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = (models or [platform.machine()])[0]
    versions = [run("openssl", "version"), run("rustc", "--version"), run("valgrind", "--version")]
    versions = ", ".join(version.strip() for version in versions)
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}; {versions}."


def main():
    if sys.argv[1:] == ["check"]:
        return check()
    parts = [instructions, mentions, certificates, early, first_byte, register, redis, handshake, store, mixes, ends, nginx]
    names = sys.argv[1:] or [part.__name__ for part in parts]
    if unknown := set(names) - {part.__name__ for part in parts}:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}")
    readme = HERE / "README.md"
    if {nginx.__name__, first_byte.__name__} & set(names):
        # Before the others have been run.
        beside_nginx.find_nginx()
    where = machine()
    for part in parts:
        if part.__name__ in names:
            text = f"{part()}\n\n{where}"
            begin, end = f"<!-- {part.__name__} -->", f"<!-- end of {part.__name__} -->"
            old = readme.read_text()
            new = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", old, flags=re.S)
            readme.write_text(new)


if __name__ == "__main__":
    main()
