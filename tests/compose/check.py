"""The rules that docker-compose.yml, the Dockerfile and config/*.yaml keep, where no engine can try them.

Each rule reads a `Tree`, the texts of the repository with a change or without, and tells what is wrong. Each names
changes that it must notice, so that no rule can pass by finding nothing: the tree as it is must break none, each of
the changed ones must break its rule. The last line counts both, in the words that tests/run reads.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE, DOCKERFILE = "docker-compose.yml", "Dockerfile"
SNAPFOLD = os.environ["SNAPFOLD_BINARY"]


class Tree:
    """The repository with the text `old` of one file replaced by `new`."""

    def __init__(self, file="", old="", new=""):
        self.changed = {}
        if file:
            text = (ROOT / file).read_text()
            if old not in text:
                sys.exit(f"tests/compose: `{old}` is not in {file} any more: choose another change")
            self.changed[file] = text.replace(old, new)

    def text(self, file):
        return self.changed[file] if file in self.changed else (ROOT / file).read_text()

    def compose(self):
        return YAML(typ="safe").load(interpolated(self.text(COMPOSE)))

    def services(self):
        return self.compose()["services"].items()

    def written(self, file):
        """The path of a file with this text: a program is to read it."""
        if file not in self.changed:
            return str(ROOT / file)
        with tempfile.NamedTemporaryFile("w", suffix=pathlib.Path(file).name, delete=False) as copy:
            copy.write(self.changed[file])
        self.copies.append(copy.name)
        return copy.name

    copies = []


def interpolated(text):
    """`${NAME:-default}` as it is where the environment says nothing; `$$` is a dollar."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")


def run(*command, **variables):
    """What a program says if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SNAPFOLD__")} | variables
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return [] if done.returncode == 0 else [f"{command[0]}: {done.stdout}{done.stderr}".strip()]


def is_job(service):
    return service.get("restart") == "no"


def schema(tree):
    return run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", tree.written(COMPOSE))


def linter(tree):
    return run("hadolint", tree.written(DOCKERFILE))


def ports(tree):
    for name, service in tree.services():
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(port)):
                yield f"{name}: port `{port}` is not bound to 127.0.0.1"


def images(tree):
    named = [service["image"] for _, service in tree.services()]
    stages = set(re.findall(r"^FROM .* AS (\S+)$", tree.text(DOCKERFILE), re.M))
    named += [image for image in re.findall(r"^FROM (\S+)", tree.text(DOCKERFILE), re.M) if image not in stages]
    for image in named:
        if not re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", image):
            yield f"image `{image}` has no version"
    for name, service in tree.services():
        target = service.get("build", {}).get("target")
        if target is not None and target not in stages:
            yield f"{name}: the Dockerfile has no stage `{target}`"


def versions(tree):
    """What the tests run against is what is run here, and the image has the version of the program."""
    told = {"snapfold": tomllib.loads(tree.text("Cargo.toml"))["package"]["version"]}
    told["snapfold-sample"] = told["snapfold"]
    for image, server in [("kafka", "kafka"), ("seaweedfs", "seaweedfs"), ("apicurio-registry", "registry")]:
        text = tree.text(f"tests/servers/{server}.sh")
        told[image] = re.search(rf"^{server}_version=(\S+)$", text, re.M)[1]
    used = [service["image"] for _, service in tree.services()]
    used += re.findall(r"^FROM (apache/\S+)", tree.text(DOCKERFILE), re.M)
    for image in used:
        name, version = image.split("/")[-1].split(":")
        if told.get(name, version) != version:
            yield f"{image}: the version elsewhere is {told[name]}"


def lives(tree):
    for name, service in tree.services():
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if {"cpus", "memory"} - set(limits):
            yield f"{name}: no limit of processors or memory"
        if is_job(service):
            continue
        if "test" not in service.get("healthcheck", {}):
            yield f"{name}: no health check, and it is no job"
        if service.get("restart") != "unless-stopped":
            yield f"{name}: is not started again"


def order(tree):
    services = dict(tree.services())
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            needed = "service_completed_successfully" if is_job(services.get(other, {})) else "service_healthy"
            if other not in services or how["condition"] != needed:
                yield f"{name}: waits for `{other}` with {how['condition']} instead of {needed}"

    def reaches(name, seen):
        return any(other in seen or reaches(other, seen | {other})
                   for other in services.get(name, {}).get("depends_on", {}))

    yield from (f"{name}: waits for itself" for name in services if reaches(name, {name}))


def hosts(tree):
    """Whoever is named with a port exists, and is waited for, itself or through others: but nobody waits for the
    registry, without which events only wait, and `migrate` has the workers' settings and asks the stores alone."""
    services, alone = dict(tree.services()), {"migrate": {"kafka"}}

    def awaited(name):
        direct = set(services[name].get("depends_on", {}))
        return direct.union(*(awaited(other) for other in direct if other in services))

    for name, service in services.items():
        said = [*map(str, service.get("environment", {}).values()), *map(str, service.get("command") or [])]
        for host in re.findall(r"(?<![\w.$/-])([a-z][a-z0-9-]*):\d{4,5}", " ".join(said).replace("//", " ")):
            if host not in services and host != "localhost":
                yield f"{name}: there is no `{host}`"
            elif host in services and host not in awaited(name) | {name, "registry"} | alone.get(name, set()):
                yield f"{name}: does not wait for `{host}`"


def secrets(tree):
    for line in tree.text(COMPOSE).splitlines():
        found = re.match(r"[\s\[{\"-]*(\w*(?:KEY|SECRET|PASSWORD|TOKEN)\w*)\"?\s*[:=]\s*(.*)", line, re.I)
        if found and not re.match(r"[\"']?\$\{SNAPFOLD_S3_\w+:-", found[2]):
            yield f"`{found[1]}` stands in clear"


def mounts(tree):
    compose = tree.compose()
    for name, service in tree.services():
        for mount in service.get("volumes", []):
            source, _, mode = (mount.split(":") + [""])[:3]
            if not source.startswith("."):
                if source not in compose["volumes"]:
                    yield f"{name}: volume `{source}` is not declared"
            elif not (ROOT / source).is_file() or mode != "ro":
                yield f"{name}: `{source}` is no file, or can be written"
    used = {mount.split(":")[0] for _, service in tree.services() for mount in service.get("volumes", [])}
    yield from (f"volume `{volume}` is not used" for volume in compose["volumes"] if volume not in used)


def user(tree):
    stages = re.split(r"^FROM ", tree.text(DOCKERFILE), flags=re.M)
    program = next(stage for stage in stages if re.match(r"\S+ AS snapfold\n", stage))
    users = re.findall(r"^USER (.*)$", program, re.M)
    if not users or users[-1] in ("0", "root"):
        yield "the program runs as root"
    if "--locked" not in tree.text(DOCKERFILE):
        yield "the build does not keep to Cargo.lock"


def context(tree):
    """Nothing that a build reads is kept from it."""
    rules = [line for line in tree.text(".dockerignore").splitlines() if line and not line.startswith("#")]

    def is_sent(path):
        last = None
        for rule in rules:
            name = rule.lstrip("!").rstrip("/")
            if name == "*" or path == name or path.startswith(name + "/"):
                last = rule
        return last is not None and last.startswith("!")

    read = {"Cargo.toml", "Cargo.lock", ".cargo/config.toml"}
    read |= set(re.findall(r"^COPY (?:--chmod=\d+ )?([\w./-]+) ", tree.text(DOCKERFILE), re.M))
    read |= {f"{folder}/x" for folder in re.findall(r"source=([\w./-]+)", tree.text(DOCKERFILE))}
    for source in (ROOT / "src").rglob("*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
            read.add(str((source.parent / name).resolve().relative_to(ROOT)))
    manifest = tomllib.loads(tree.text("Cargo.toml"))
    for kind, folder in [("bench", "benches"), ("test", "tests")]:
        read |= {target.get("path", f"{folder}/{target['name']}.rs") for target in manifest.get(kind, [])}
    yield from (f".dockerignore keeps `{path}` from the build" for path in sorted(read) if not is_sent(path))


def configurations(tree):
    """What services mount is valid with what their environment sets over it."""
    checked = 0
    for name, service in tree.services():
        variables = {k: str(v) for k, v in service.get("environment", {}).items() if k.startswith("SNAPFOLD__")}
        files = [mount.split(":")[0] for mount in service.get("volumes", []) if mount.startswith("./config/")]
        checked += len(files)
        for file in files:
            found = run(SNAPFOLD, "config", "check", "--config", tree.written(file.removeprefix("./")), **variables)
            yield from (f"{name}: {finding}" for finding in found)
    if checked < 3:
        yield "two workers and `migrate` have a configuration each"


def options(tree):
    """Commented settings (`#key`, without a blank) are valid, all together."""
    for name in ("config/embedded.yaml", "config/cluster.yaml"):
        text = tree.text(name)
        all_set = Tree()
        all_set.changed[name] = re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.M)
        if all_set.changed[name] == text:
            yield f"{name}: there is no commented setting"
        with tempfile.NamedTemporaryFile("w") as secret:
            secret.write("secret")
            secret.flush()
            all_set.changed[name] = re.sub(r"fromFile: /run/\S+", f"fromFile: {secret.name}", all_set.changed[name])
            yield from (f"{name}: {finding}" for finding in run(SNAPFOLD, "config", "check", "--config",
                                                                  all_set.written(name)))


KAFKA = "image: apache/kafka:4.3.1\n    hostname"
# Rule, what it promises, and changes (of the compose file, unless a file is named) that it must notice.
RULES = [
    (schema, "docker-compose.yml follows the Compose Specification", [
        ("stop_grace_period: 60s\n  healthcheck", "stop_grace: 60s\n  healthcheck"),
        ("limits: { cpus: \"2\", memory: 1G }", "limits: 1G")]),
    (linter, "hadolint finds nothing in the Dockerfile", [
        (DOCKERFILE, "WORKDIR /snapfold", "WORKDIR snapfold")]),
    (ports, "every port is bound to 127.0.0.1", [
        ("127.0.0.1:9092:9092", "9092:9092"), ("127.0.0.1:8333:8333", "0.0.0.0:8333:8333")]),
    (images, "every image has a version, and every stage that is built exists", [
        (KAFKA, KAFKA.replace("4.3.1", "latest")), (KAFKA, KAFKA.replace(":4.3.1", "")),
        ("target: sample", "target: samples"), (DOCKERFILE, "debian:13.5-slim AS snapfold", "debian AS snapfold")]),
    (versions, "versions are those of the tests and of the program", [
        (KAFKA, KAFKA.replace("4.3.1", "4.2.0")), ("image: snapfold:0.1.0", "image: snapfold:0.0.9"),
        (DOCKERFILE, "apache/kafka:4.3.1", "apache/kafka:4.2.0")]),
    (lives, "every server has a health check, limits and a restart policy; every job has limits", [
        ("limits: { cpus: \"2\", memory: 768M }", "limits: { cpus: \"2\" }"),
        ("test: [CMD, cqlsh", "disable: true\n      was: [CMD, cqlsh"),
        ("restart: unless-stopped", "restart: always")]),
    (order, "whoever waits, waits until servers are healthy and jobs are done", [
        ("kafka: { condition: service_healthy }", "kafka: { condition: service_started }"),
        ("scylla: { condition: service_healthy }", "scyla: { condition: service_healthy }"),
        ("seaweedfs: { condition: service_healthy }", "migrate: { condition: service_completed_successfully }")]),
    (hosts, "every host that is named exists and is waited for", [
        ("http://seaweedfs:8333", "http://seaweed:8333"), ("[\"scylla:9042\"]", "[\"cassandra:9042\"]"),
        ("    depends_on: { kafka: { condition: service_healthy } }\n", "")]),
    (secrets, "no secret stands in clear but the demo keys, which can be replaced", [
        ("AWS_SECRET_ACCESS_KEY: ${SNAPFOLD_S3_SECRET_KEY:-secretsecret}", "AWS_SECRET_ACCESS_KEY: secretsecret"),
        ("\"${SNAPFOLD_S3_SECRET_KEY:-secretsecret}\"", "\"secretsecret\"")]),
    (mounts, "what is mounted exists, and files cannot be written", [
        ("./config/compat.yaml:", "./config/compatible.yaml:"), ("config.yaml:ro", "config.yaml"),
        ("  scylla: {}\n", ""), ("[\"seaweedfs:/data\"]", "[]")]),
    (user, "the program runs as an ordinary user and is built from Cargo.lock", [
        (DOCKERFILE, "USER 10001", "USER root"), (DOCKERFILE, "--locked ", "")]),
    (context, "the build gets every file that it reads", [
        (".dockerignore", "!config\n", ""), (".dockerignore", "!assets/browser-compat\n", ""),
        (".dockerignore", "!tools/bundled-data/produce\n", ""), (".dockerignore", "!benches\n", "")]),
    (configurations, "mounted configurations are valid with what is set over them", [
        ("SNAPFOLD__MEMORY__LIMIT: 512MiB", "SNAPFOLD__MEMORY__LIMIT: 512"),
        ("SNAPFOLD__FLUSH__LINGER", "SNAPFOLD__FLUSH__LINGERS"),
        ("config/compat.yaml", "reducer: json-patch", "reducer: xml-patch")]),
    (options, "commented settings of config/*.yaml are valid, all together", [
        ("config/cluster.yaml", "#pathStyle: true", "#pathStyle: maybe"),
        ("config/embedded.yaml", "#sasl.mechanism", "#group.id")]),
]


def main():
    passed, failed = 0, 0
    for rule, promise, changes in RULES:
        found = list(rule(Tree()))
        for change in changes:
            change = change if len(change) == 3 else (COMPOSE, *change)
            if not list(rule(Tree(*change))):
                found.append(f"does not notice that in {change[0]} `{change[1]}` became `{change[2]}`")
        print(f"{'FAILED' if found else 'ok':6} {promise}", *found, sep="\n       " if found else "")
        passed, failed = passed + (not found), failed + bool(found)
    for copy in Tree.copies:
        os.unlink(copy)
    print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; 0 ignored")
    return failed > 0


sys.exit(main())
