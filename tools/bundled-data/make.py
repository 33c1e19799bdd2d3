#!/usr/bin/env python3
"""Make the bundled sample of real events from the published releases of one npm package.

Owns `assets/browser-compat/compat-releases.ndjson.zst`: the history of the web platform's support tables
(@mdn/browser-compat-data, CC0-1.0), one aggregate per interface, property, element, ..., one event per
release that changes it. The README.md beside the output says what a line looks like; `releases.txt` beside
this file says which releases are taken.

Order: download what the cache lacks (one tarball after the other), diff release by release, choose
aggregates, write, verify, put in place.
Deterministic: the same tarballs, list and zstd version give the same bytes; no clock, no randomness, and
only sorted iteration reaches the output.
If it fails: nothing in the repository changes; tarballs already fetched stay in the cache, so a second run
resumes.

Usage:  python3 tools/bundled-data/make.py [--cache DIR] [--offline]
Needs:  Python >= 3.9, npm, zstd >= 1.5, and `pip install jsonpatch` (the independent library that verifies).
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from json_diff import canonical, compact, diff

PACKAGE = "@mdn/browser-compat-data"
HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "assets" / "browser-compat" / "compat-releases.ndjson.zst"

# The branches of the package's tree that hold support tables. `browsers` (release dates) and `__meta` do not.
CATEGORIES = ("api", "css", "html", "http", "javascript", "manifests", "mathml", "svg", "webassembly",
              "webdriver", "webextensions")
# Below these the name alone makes the id (`css.properties.grid` is `css/grid`); other groups stay in it
# (`css.types.color` is `css/types/color`), so no two features share an id.
MAIN_GROUPS = {"css": "properties", "html": "elements", "http": "headers", "javascript": "builtins",
               "mathml": "elements", "svg": "elements"}
# Categories whose children are aggregates themselves, without a group between.
FLAT = ("api",)

# Chosen: the longest histories, of each category at most so many, so that one category cannot crowd out the
# others.
QUOTAS = {"api": 200, "css": 100, "html": 30, "javascript": 50, "http": 20, "svg": 10}
# Always there, because the documentation asks about them.
ALWAYS = ("api/Window", "css/grid", "css/display", "html/input", "javascript/Array")
COMPRESSED_BYTES_MAX = 3_000_000


def releases():
    """The list of `releases.txt`: pairs of version and date, None where the package has its own."""
    taken = []
    for line in (HERE / "releases.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            taken.append((words[0], words[1] + "T00:00:00Z" if len(words) > 1 else None))
    return taken


def tarball(version, cache, offline):
    """The path of a release's tarball, fetched with the npm client (which checks it) if it is not cached."""
    path = cache / f"mdn-browser-compat-data-{version}.tgz"
    if not path.exists():
        if offline:
            sys.exit(f"{path} is not in the cache")
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            command = ["npm", "pack", "--silent", "--pack-destination", partial, f"{PACKAGE}@{version}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            # A rename is atomic: a tarball that is in the cache is whole.
            os.replace(Path(partial) / path.name, path)
    return path


def merge_into(target, source):
    """Merge one source file into the tree, as the package's own loader did before it shipped data.json."""
    for name, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            merge_into(target[name], value)
        else:
            target[name] = value


def unique_members(pairs):
    """An object from its members; a repeated name would make the fold ambiguous: it ends the run."""
    members = dict(pairs)
    assert len(members) == len(pairs), f"duplicate member in {[name for name, _ in pairs][:9]}"
    return members


def tree(path):
    """One release as one JSON tree: `data.json`, or the merged source files of the layout before 3.3.0."""
    with tarfile.open(path) as package:
        files = {member.name: member for member in package if member.isfile()}
        single = files.get("package/data.json")
        if single:
            return json.load(package.extractfile(single), object_pairs_hook=unique_members)
        merged = {}
        for name in sorted(files):
            if name.endswith(".json") and name.split("/")[1] in CATEGORIES:
                source = package.extractfile(files[name])
                merge_into(merged, json.load(source, object_pairs_hook=unique_members))
        return merged


def documents(release_tree):
    """The aggregates of a release: id to document."""
    found = {}
    for category in CATEGORIES:
        for group, members in release_tree.get(category, {}).items():
            if group == "__compat":
                continue
            if category in FLAT:
                found[f"{category}/{group}"] = members
                continue
            prefix = category if MAIN_GROUPS.get(category) == group else f"{category}/{group}"
            for name, document in members.items():
                if name != "__compat":
                    found[f"{prefix}/{name}"] = document
    return found


class History:
    """The events of one aggregate so far, and its document's digest at every release that has it."""

    def __init__(self):
        self.current = None
        self.latest = None
        self.events = []
        self.digests = {}

    def advance(self, release, document):
        """Take the next release's document (None: it has none) and add the event that leads there, if any."""
        if document is None and self.current is None:
            return
        if document is not None:
            self.digests[release] = digest(document)
            # Most documents stay as they are in most releases: this saves the diff.
            if self.current is not None and self.latest == self.digests[release]:
                return
        self.latest = self.digests.get(release)
        if document is None:
            self.events.append((release, "Removed", [{"op": "replace", "path": "", "value": None}]))
        elif self.current is None:
            self.events.append((release, "Released", [{"op": "replace", "path": "", "value": document}]))
        else:
            self.events.append((release, "Released", diff(self.current, document)))
        self.current = document


def digest(document):
    """SHA-256 of a document's canonical form."""
    return hashlib.sha256(canonical(document).encode()).digest()


def histories(taken, cache, offline):
    """All aggregates' histories over the taken releases, and the time of each release."""
    times, found = {}, {}
    for version, date in taken:
        release_tree = tree(tarball(version, cache, offline))
        times[version] = date or release_tree["__meta"]["timestamp"]
        current = documents(release_tree)
        for aggregate in current.keys() | found.keys():
            found.setdefault(aggregate, History()).advance(version, current.get(aggregate))
        print(f"  {version} {times[version]} {len(current)} documents", file=sys.stderr)
    order = [times[version] for version, _ in taken]
    assert order == sorted(order), "a release is older than the one before it"
    return found, times


def chosen(found):
    """The ids to bundle: per category the longest histories (ties by id), and ALWAYS."""
    ids = set(ALWAYS)
    for category, quota in QUOTAS.items():
        members = [aggregate for aggregate in found if aggregate.split("/")[0] == category]
        members.sort(key=lambda aggregate: (-len(found[aggregate].events), aggregate))
        ids.update(members[:quota])
    return sorted(ids)


def lines(ids, found, times):
    """The events as NDJSON lines, in log order: by release, then by aggregate id."""
    by_release = {version: [] for version in times}
    for aggregate in ids:
        for version, (release, kind, patch) in enumerate(found[aggregate].events, 1):
            by_release[release].append({
                "id": hashlib.sha256(f"{aggregate}\n{release}".encode()).hexdigest()[:20],
                "type": kind, "aggregateId": aggregate, "version": version,
                "timestamp": times[release], "release": release, "data": patch,
            })
    for release in by_release:
        for event in by_release[release]:
            yield compact(event) + "\n"


def verify(path, ids, found, taken):
    """Fold the finished file with an independent library and compare every document of every release."""
    import jsonpatch  # here, so that --help works without it

    text = subprocess.run(["zstd", "-dc", str(path)], check=True, stdout=subprocess.PIPE).stdout.decode()
    events = [json.loads(line, object_pairs_hook=unique_members) for line in text.splitlines()]
    state, versions, seen = dict.fromkeys(ids), dict.fromkeys(ids, 0), set()
    compared, at = 0, 0
    for release, _ in taken:
        while at < len(events) and events[at]["release"] == release:
            event = events[at]
            aggregate = event["aggregateId"]
            versions[aggregate] += 1
            assert event["version"] == versions[aggregate], f"version of {event['id']}"
            assert event["id"] not in seen, f"id {event['id']} twice"
            seen.add(event["id"])
            state[aggregate] = jsonpatch.apply_patch(state[aggregate], event["data"])
            at += 1
        for aggregate in ids:
            expected = found[aggregate].digests.get(release)
            folded = state[aggregate]
            assert (folded is None) == (expected is None), f"{aggregate} at {release}"
            if expected is not None:
                assert digest(folded) == expected, f"{aggregate} at {release}"
                compared += 1
    assert at == len(events), "events of a release that was not taken"
    report(path, text, events, ids, taken, compared)


def report(path, text, events, ids, taken, compared):
    """Print the counts that the README states."""
    per_aggregate = {aggregate: 0 for aggregate in ids}
    for event in events:
        per_aggregate[event["aggregateId"]] += 1
    lengths = sorted(per_aggregate.values())
    categories = {}
    for aggregate in ids:
        category = aggregate.split("/")[0]
        categories[category] = categories.get(category, 0) + 1
    raw = text.encode()
    print(f"releases      {len(taken)}: {taken[0][0]} to {taken[-1][0]}")
    print(f"time          {events[0]['timestamp']} to {events[-1]['timestamp']}")
    print(f"aggregates    {len(ids)}: {categories}")
    print(f"events        {len(events)}: {sum(e['type'] == 'Removed' for e in events)} Removed, "
          f"{sum(len(e['data']) for e in events)} operations")
    print(f"per aggregate {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}")
    print(f"api/Window    {per_aggregate['api/Window']} events")
    print(f"longest line  {max(len(line.encode()) for line in text.splitlines())} bytes")
    print(f"raw           {len(raw)} bytes, SHA-256 {hashlib.sha256(raw).hexdigest()}")
    packed = path.read_bytes()
    print(f"compressed    {len(packed)} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    print(f"verified      {compared} documents, every release of every aggregate")


def main():
    """Parse the options and run the steps in the order of the file's head."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "snapfold" / "browser-compat"
    parser.add_argument("--cache", type=Path, default=default, help="for tarballs (default: %(default)s)")
    parser.add_argument("--offline", action="store_true", help="fail instead of downloading")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)

    taken = releases()
    found, times = histories(taken, options.cache, options.offline)
    ids = chosen(found)
    with tempfile.TemporaryDirectory() as scratch:
        raw, packed = Path(scratch) / "events.ndjson", Path(scratch) / "events.ndjson.zst"
        with raw.open("w", encoding="utf-8") as out:
            out.writelines(lines(ids, found, times))
        # Level 19 keeps the window at 8 MiB, far below the 128 MiB that a decoder accepts by default.
        subprocess.run(["zstd", "-19", "--single-thread", "-q", "-o", str(packed), str(raw)], check=True)
        verify(packed, ids, found, taken)
        assert packed.stat().st_size <= COMPRESSED_BYTES_MAX, "too large to bundle: lower the quotas"
        OUTPUT.write_bytes(packed.read_bytes())


if __name__ == "__main__":
    main()
