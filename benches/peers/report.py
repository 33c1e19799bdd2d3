"""What the scripts of this folder share: building what is measured, asking it how it does, and showing tables."""

import json
import subprocess
import urllib.request

from processes import ROOT, Failed


def say(text):
    print(text, flush=True)


def metrics(url):
    """Sums of the samples of each metric; none where nobody answers."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    sums = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.split("{")[0].split()[0], line.rsplit(" ", 1)[1]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def table(head, rows):
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    say("")
    for cells in [head, ["-" * width for width in widths], *rows]:
        say(line(cells))


def checked(argv):
    if subprocess.run([str(word) for word in argv], cwd=ROOT).returncode != 0:
        raise Failed(f"`{argv[0]} {argv[1]}` failed")


def built(words, name):
    """Path of the program that cargo builds."""
    argv = ["cargo", *words, "--locked", "--message-format=json-render-diagnostics"]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(argv)}` failed")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    raise Failed(f"cargo built no `{name}`")
