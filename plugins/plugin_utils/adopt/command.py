"""Finds the model server in a container's command line, whatever wraps it, and the words that it is given; never runs or fetches anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import expansion

SHELLS = ("sh", "bash", "dash", "ash", "zsh")
# Programs that only start another one.
STARTERS = ("exec", "env", "nohup", "tini", "dumb-init", "--", "-g")
PYTHON = re.compile(r"python[\d.]*")
API_SERVER = re.compile(r"vllm[./]entrypoints[./]openai[./]api_server(\.py)?")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
# In a shell's script; ${NAME:-default} among them.
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
OWN, COMPUTED, UNKNOWN = re.compile(r"\$\(([A-Za-z_]\w*)\)"), re.compile(r"\$\([^()]*\)|`[^`]*`"), "CHANGE_ME"
# All arguments of a script.
ARGUMENTS = re.compile(r"\"\$[@*]\"|\$[@*]")
# What a shell does that changes nothing of the server.
HARMLESS = ("set", "echo", "printf", "true", ":", "sleep", "date", "nvidia-smi", "ls", "env", "ulimit")
SEPARATORS = (";", "&&")
PUNCTUATION = ";&|()<>\n"
# Images by the last parts of their name, wherever they are mirrored to; and what is around a server, and is none.
IMAGES = {
    "vllm": re.compile(r"(^|/)[\w.-]*vllm[\w.-]*(/|$)"),
    "triton": re.compile(r"(^|/)(tritonserver|triton-inference-server|[\w.-]*tritonserver[\w.-]*)(/|$)"),
    "mlserver": re.compile(r"(^|/)[\w.-]*mlserver[\w.-]*(/|$)"),
}
AROUND = re.compile(
    r"router|sim(ulator)?\b|proxy|gateway|exporter|scheduler|operator|controller|lookup|benchmark|lora-syncer"
)
# What the image of AWS for SageMaker turns into flags.
SAGEMAKER = "SM_VLLM_"


@dataclass
class Command:
    """The command line of a model server.

    Attributes:
        kind: ``vllm``, ``triton`` or ``mlserver``; ``""`` for a server that could not be found in it.
        words: what the server is given.
        exports: variables that a shell sets for it.
        lost: what else the command line does, in words.
        used: variables of the container that are only flags of the server.
    """

    kind: str
    words: list[str] = field(default_factory=list)
    exports: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)


def image_kind(image: str) -> str:
    """Tell by an image's name which server it has, ``""`` for none."""
    name = image.partition("@")[0]
    last = name.rpartition("/")[2]
    name = name[: -len(last)] + last.partition(":")[0]
    # A registry's project may be called proxy.
    if AROUND.search(name.rpartition("/")[2]):
        return ""
    return next((kind for kind, pattern in IMAGES.items() if pattern.search(name)), "")


def read(container: Mapping) -> Command | None:
    """Read a container.

    Args:
        container: as it is in a pod.

    Returns:
        the server that it runs; None where neither command nor image is one's.
    """
    values = {item["name"]: _value(item) for item in container.get("env") or []}
    command, arguments = list(container.get("command") or []), list(container.get("args") or [])
    words = [_expanded(str(word), values) for word in (*command, *arguments)]
    found = _found(words, values)
    by_image = image_kind(str(container.get("image")))
    if found:
        return found
    if not by_image:
        return None
    if command:
        return Command(by_image, lost=[f"the command is none of a known server: {_told(command)[:120]}"])
    given = Command(by_image, words)
    if by_image == "vllm":
        for name, value in values.items():
            if name.startswith(SAGEMAKER) and isinstance(value, str):
                flag = "--" + name.removeprefix(SAGEMAKER).lower().replace("_", "-")
                given.words += [flag] if value.lower() in ("", "true") else [f"{flag}={value}"]
                given.used.add(name)
        if words[:1] == ["serve"]:
            given.words = given.words[1:]
    return given


def _value(variable: Mapping) -> str | Mapping:
    """Give a variable's value; one of a Secret or a field has none here, and the API drops an empty text."""
    return variable.get("value", {} if "valueFrom" in variable else "")


def _expanded(word: str, values: Mapping) -> str:
    """Put in the value of ``$(NAME)`` where it is known; one of a Secret stays as it is written."""
    text = expansion.expanded(word, values)
    return word if text is None else text


def _found(words: list[str], values: Mapping) -> Command | None:
    """Find the server's program among words; a shell's script is read, too."""
    rest = _split(words[0]) if len(words) == 1 and " " in words[0] else list(words)
    start = next((at for at, word in enumerate(rest) if not _only_starts(word)), len(rest))
    if rest[start:] and rest[start].rpartition("/")[2] in SHELLS:
        place = next((at for at, word in enumerate(rest) if at > start and re.fullmatch(r"-[a-z]*c", word)), 0)
        given = dict(match.groups() for word in rest[:start] if (match := ASSIGNMENT.fullmatch(word)))
        if not place or len(rest) <= place + 1:
            return None
        # After the script comes what it calls itself, then its arguments.
        arguments = {str(at): word for at, word in enumerate(rest[place + 2 :])}
        script = ARGUMENTS.sub(lambda _: shlex.join(rest[place + 3 :]), rest[place + 1])
        return _Shell({**values, **given, **arguments}, given).read(script)
    command, before = Command(""), []
    for at, word in enumerate(rest):
        command.kind, given = _program(rest[at:])
        if command.kind:
            command.words = given
            if "/" in word and not word.startswith(("/usr/", "/opt/tritonserver/")) and not word.endswith(".py"):
                command.lost.append(f"its program is {word}, and the role's start script calls the one of PATH")
            return _started(command, before)
        before.append(word)
    return None


def _only_starts(word: str) -> bool:
    return bool(ASSIGNMENT.fullmatch(word)) or word.rpartition("/")[2] in STARTERS


def _program(words: list[str]) -> tuple[str, list[str]]:
    """Tell which server words begin with, and what it is given."""
    name = words[0].rpartition("/")[2]
    if name == "vllm" and words[1:2] == ["serve"]:
        return "vllm", words[2:]
    if API_SERVER.search(words[0]):
        return "vllm", words[1:]
    if name == "tritonserver":
        return "triton", words[1:]
    return ("mlserver", words[2:]) if name == "mlserver" and words[1:2] == ["start"] else ("", [])


def _started(command: Command, before: list[str]) -> Command:
    """Read what stands before the server's program: assignments and what only starts it say nothing more."""
    kept = []
    for word in before:
        if match := ASSIGNMENT.fullmatch(word):
            command.exports[match[1]] = match[2]
        elif word.rpartition("/")[2] not in STARTERS and word != "-m" and not PYTHON.fullmatch(word.rpartition("/")[2]):
            kept.append(word)
    if kept:
        command.lost.append(f"it is started by: {_told(kept)}")
    return command


def _told(words: list) -> str:
    """Write words for people: hidden as words first, since a joined text no longer says which one is an option's."""
    return hiding.hide_text(" ".join(hiding.hide([str(word) for word in words])))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


class _Shell:
    """Reads a shell's script: simple commands, one after the other; what is more is told, and not followed."""

    def __init__(self, values: Mapping, exports: Mapping) -> None:
        self.known, self.exports, self.lost = dict(values), dict(exports), []

    def read(self, text: str) -> Command | None:
        """Find the server among the commands; None where there is none, or the script can't be read."""
        # Kubernetes puts in a container's own variables before the shell reads them.
        text = OWN.sub(lambda match: f"${{{match[1]}}}" if match[1] in self.known else match[0], text)
        text, computed = COMPUTED.subn(UNKNOWN, text)
        if computed:
            self.lost.append(f"the shell computes a part of the command line: {UNKNOWN} stands for it")
        try:
            commands = _commands(text)
        except ValueError:
            return None
        server: Command | None = None
        for words, before in commands:
            if server:
                # Redirections and pipes belong to the server's output; what follows it runs after its end.
                self.lost.append(f"the shell also has, after the server: {before.strip() or ';'} {_name(words)}")
                continue
            if before.strip() and before.strip() not in SEPARATORS:
                self.lost.append(f"the shell's {before.strip()} is not read")
            server = self._command(words)
        if server:
            server.exports = {**self.exports, **server.exports}
            server.lost = list(dict.fromkeys([*self.lost, *server.lost]))
        return server

    def _command(self, words: list[str]) -> Command | None:
        resolved = [part for word in words for part in self._resolved(word)]
        if words[0] == "export" or all(ASSIGNMENT.fullmatch(word) for word in words):
            pairs = [match for word in resolved if (match := ASSIGNMENT.fullmatch(word))]
            here = {match[1]: match[2] for match in pairs}
            self.known |= here
            self.exports |= here if words[0] == "export" else {}
            return None
        server = _found(resolved, self.known)
        if not server and words[0] not in HARMLESS:
            self.lost.append(f"the shell runs, before the server: {_name(words)}")
        return server

    def _resolved(self, word: str) -> list[str]:
        """Put in the values of variables; of one that comes from a Secret or a field, Kubernetes' form of it."""
        text = VARIABLE.sub(self._value, word)
        # Without quotes, a shell makes several words of a variable's value, and keeps the quotes in it.
        if VARIABLE.fullmatch(word) and " " in text:
            return text.split()
        return [text] if text or not word else []

    def _value(self, match: re.Match) -> str:
        name = match[1] or match[2]
        given = self.known.get(name)
        if isinstance(given, str) and given:
            return given
        if isinstance(given, Mapping):
            return f"$({name})"
        if match[3] is None:
            if name in self.known:
                return ""
            self.lost.append(f"the value of ${name} is not known: {UNKNOWN} stands for it")
            return UNKNOWN
        return match[3]


def _name(words: list[str]) -> str:
    """Name a command's program alone: what it is given may be a credential in any form."""
    names = [word for word in words if not ASSIGNMENT.fullmatch(word)]
    return f"{names[0]} ..." if names[1:] else "".join(names)


def _commands(text: str) -> list[tuple[list[str], str]]:
    """Split a script into its commands, each with what stands before it.

    Raises:
        ValueError: its quotes do not match.
    """
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    lexer = shlex.shlex("\n".join(lines), posix=True, punctuation_chars=PUNCTUATION)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    commands: list[tuple[list[str], str]] = [([], "")]
    for token in lexer:
        if token and set(token) <= set(PUNCTUATION):
            if token[0] in "<>" and commands[-1][0][-1:] and commands[-1][0][-1].isdigit():
                commands[-1][0].pop()  # 2>&1
            commands.append(([], token))
        else:
            commands[-1][0].append(token)
    return [(words, before) for words, before in commands if words]
