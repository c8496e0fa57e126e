"""Whether a host is who it says: known_hosts as OpenSSH reads it (sshd(8), SSH_KNOWN_HOSTS).

Paramiko's own reader knows neither markers nor patterns nor which line an entry came from, so the
files are read here: hashed names, `[host]:port`, wildcards, `@cert-authority` and `@revoked`, and
the list that ssh_config names in RevokedHostKeys.
Host certificates are checked as in OpenSSH's PROTOCOL.certkeys: type, authority, signature,
validity and principals; one without principals is for nobody.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramiko import Message, PKey
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import SSHException

from runbook.errors import TrustError

CERT = "-cert-v01@openssh.com"
FirstContact = Callable[[str, str, str], bool]
"""Asked with host, key type and SHA-256 fingerprint; True: the operator vouches for the key."""

_SIGNATURES = {
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
}  # SHA-1 signatures of an authority are worth nothing
_KRL = b"SSHKRL\n\0"
_NO_LIST = "RevokedHostKeys in ssh_config names it; without it nothing is connected."
_NUMBERS = {"ssh-rsa": 2, "ssh-ed25519": 1}  # fields of the public key; ECDSA has two
_HOST_CERTIFICATE = 2


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a public key as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file."""

    marker: str  # "", "@cert-authority" or "@revoked"
    names: str
    keytype: str
    blob: bytes
    place: str  # file:line

    def names_host(self, name: str) -> bool:
        """Whether the line is about `name` (lower case, `[host]:port` off port 22)."""
        if self.names.startswith("|1|"):
            return self._hashed(name)
        found = False
        for pattern in self.names.lower().split(","):
            negated = pattern.startswith("!")
            # brackets are literal in known_hosts, only * and ? are wild
            glob = pattern.lstrip("!").replace("[", "[[]")
            if fnmatch.fnmatchcase(name, glob):
                if negated:
                    return False
                found = True
        return found

    def _hashed(self, name: str) -> bool:
        try:
            _, _, salt, digest = self.names.split("|")
            made = hmac.new(base64.b64decode(salt), name.encode(), "sha1").digest()
            return hmac.compare_digest(made, base64.b64decode(digest))
        except (ValueError, binascii.Error):
            return False


def read_entries(files: Sequence[Path]) -> tuple[Entry, ...]:
    """All entries of these files in order; a file that is not there has none."""
    entries = []
    for file in files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TrustError(
                f"{file} cannot be read: {error.strerror}",
                hint="Without known host keys nothing is connected.",
            ) from error
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            marker = fields.pop(0) if fields[0].startswith("@") else ""
            if len(fields) < 3 or marker not in ("", "@cert-authority", "@revoked"):
                continue
            try:
                blob = base64.b64decode(fields[2], validate=True)
            except binascii.Error:
                continue
            entries.append(Entry(marker, fields[0], fields[1], blob, f"{file}:{number}"))
    return tuple(entries)


def read_revoked(file: Path) -> tuple[Entry, ...]:
    """The keys that a list of revoked ones has; TrustError where that cannot be told.

    A KRL has no lines: `ssh-keygen` asks it, see `_not_in_krl`.
    """
    data = _revocations(file)
    if data.startswith(_KRL):
        return ()
    entries = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            blob = base64.b64decode(fields[1], validate=True)
        except (IndexError, ValueError):
            raise TrustError(f"{file}:{number} is no public key", hint=_NO_LIST) from None
        entries.append(Entry("@revoked", "*", fields[0], blob, f"{file}:{number}"))
    return tuple(entries)


def _revocations(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TrustError(f"{file} cannot be read: {error.strerror}", hint=_NO_LIST) from error


@dataclass(frozen=True, slots=True)
class Identity:
    """The host we mean to reach, and where its key is written."""

    host: str  # for a person
    address: str  # what is dialled, or HostKeyAlias
    port: int = 22  # 22 with a HostKeyAlias too: an alias has no port
    files: tuple[Path, ...] = ()
    hashed: bool = False  # HashKnownHosts
    revoked: Path | None = None  # RevokedHostKeys

    @property
    def name(self) -> str:
        address = self.address.lower()
        return address if self.port == 22 else f"[{address}]:{self.port}"

    def entries(self) -> tuple[Entry, ...]:
        """The lines about this host: by its name with port, else by the bare name."""
        every = read_entries(self.files)
        revoked = read_revoked(self.revoked) if self.revoked else ()
        mine = tuple(e for e in every if e.names_host(self.name))
        if mine or self.port == 22:
            return mine + revoked
        # like OpenSSH: a key known for the host itself is good for another port of it; whatever
        # else is known of the bare name says nothing about this port
        return tuple(e for e in every if e.names_host(self.address.lower())) + revoked

    def exact(self) -> bool:
        return any(e.names_host(self.name) for e in read_entries(self.files))


def preferred(identity: Identity, offered: Sequence[str]) -> list[str]:
    """The host key algorithms in the order to ask for them: those we could verify come first.

    Otherwise a host that has keys of several types would look changed.
    """
    entries = identity.entries()
    plain = {e.keytype for e in entries if not e.marker}
    authority = any(e.marker == "@cert-authority" for e in entries)

    def keytype(algorithm: str) -> str:
        return "ssh-rsa" if algorithm.startswith("rsa-") else algorithm

    known = [a for a in offered if keytype(a) in plain]
    others = [a for a in offered if a not in known]
    certificates = [a + CERT for a in offered] if authority else []
    return certificates + known + others


def verify(identity: Identity, blob: bytes, ask: Callable[[str, str], bool]) -> None:
    """Returns when `blob`, the key or certificate the host proved to have, is the expected one.

    `ask(key type, fingerprint)` is called for a host of which nothing is known. TrustError
    otherwise.
    """
    entries = identity.entries()
    if identity.revoked:
        _not_in_krl(identity, identity.revoked, blob)
    key, certificate_says = blob, ""
    keytype = Message(blob).get_text()
    if keytype.endswith(CERT):
        key, authority, certificate_says = _certified(identity, blob, entries)
        if not certificate_says:
            return
        keytype = keytype.removesuffix(CERT).replace("rsa-sha2-512", "ssh-rsa")
        _not_revoked(identity, authority, entries)
    _not_revoked(identity, key, entries)
    plain = [e for e in entries if not e.marker]
    if any(hmac.compare_digest(e.blob, key) for e in plain):
        return
    if certificate_says:
        raise TrustError(
            f"the host certificate of {identity.host} is not good: {certificate_says}. "
            "Nothing was sent.",
            host=identity.host,
            hint="Have the certificate issued again, or put the host's own key into known_hosts.",
        )
    if plain and identity.exact():
        raise _changed(identity, plain, keytype, key)
    if not ask(keytype, fingerprint(key)):
        file = identity.files[0] if identity.files else Path("~/.ssh/known_hosts")
        raise TrustError(
            f"the host key of {identity.host} is not known: {keytype} {fingerprint(key)}. "
            "Nothing was sent.",
            host=identity.host,
            hint="Compare it on the host (`ssh-keygen -lf /etc/ssh/ssh_host_"
            f"{_short(keytype)}_key.pub`), then accept it at the prompt, or add it to {file}.",
        )
    _append(identity, keytype, key)


def _changed(identity: Identity, plain: list[Entry], keytype: str, key: bytes) -> TrustError:
    old = next((e for e in plain if e.keytype == keytype), plain[0])
    return TrustError(
        f"THE HOST KEY OF {identity.host} HAS CHANGED: {old.place} has {old.keytype} "
        f"{fingerprint(old.blob)}, the host shows {keytype} {fingerprint(key)}. "
        "Somebody may be in the middle. Nothing was sent.",
        host=identity.host,
        hint="Only after the owner of the host confirmed the new fingerprint: "
        f"ssh-keygen -R '{identity.name}' -f {old.place.rpartition(':')[0]}",
    )


def _not_revoked(identity: Identity, key: bytes, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.marker == "@revoked" and entry.blob == key:
            raise _revoked(identity, key, entry.place)


def _not_in_krl(identity: Identity, file: Path, blob: bytes) -> None:
    """A KRL knows certificates by their number, too: `ssh-keygen` reads it, as it wrote it."""
    if not _revocations(file).startswith(_KRL):
        return
    line = f"{Message(blob).get_text()} {base64.b64encode(blob).decode()}\n"
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Q", "-f", str(file), "/dev/stdin"],
            input=line,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise TrustError(f"{file} needs ssh-keygen: {error.strerror}", hint=_NO_LIST) from error
    if done.returncode and "REVOKED" in done.stdout:
        raise _revoked(identity, blob, str(file))
    if done.returncode:
        raise TrustError(f"{file} cannot be asked: {done.stderr.strip()}", hint=_NO_LIST)


def _revoked(identity: Identity, key: bytes, place: str) -> TrustError:
    return TrustError(
        f"the key {fingerprint(key)} of {identity.host} is revoked ({place}). Nothing was sent.",
        host=identity.host,
        hint="The host needs a new key; it stays revoked.",
    )


def _certified(
    identity: Identity, blob: bytes, entries: Sequence[Entry]
) -> tuple[bytes, bytes, str]:
    """The plain key in a host certificate, its authority, and what is wrong ('' if nothing)."""
    message = Message(blob)
    name = message.get_text().removesuffix(CERT)
    name = "ssh-rsa" if name.startswith("rsa-sha2") else name
    message.get_binary()  # the nonce
    plain = Message()
    plain.add_string(name)
    for _ in range(_NUMBERS.get(name, 2)):
        plain.add_string(message.get_binary())
    key = plain.asbytes()
    message.get_int64()  # serial
    kind = message.get_int()
    key_id = message.get_text()
    principals = _strings(message.get_binary())
    after, before = message.get_int64(), message.get_int64()
    options = message.get_binary()
    message.get_binary()  # extensions
    message.get_binary()  # reserved
    authority = message.get_binary()
    signed = blob[: len(blob) - len(message.get_remainder())]
    signature = message.get_binary()

    _not_revoked(identity, authority, entries)
    _not_revoked(identity, key, entries)
    now = time.time()
    trusted = [e for e in entries if e.marker == "@cert-authority" and e.blob == authority]
    # an alias or address stands without port in a certificate
    named = any(fnmatch.fnmatchcase(identity.address.lower(), p.lower()) for p in principals)
    if kind != _HOST_CERTIFICATE:
        wrong = "it is not a host certificate"
    elif not trusted:
        wrong = f"its authority {fingerprint(authority)} is not a @cert-authority for this host"
    elif not _signed_by(authority, signed, signature):
        wrong = "the signature of its authority is not good"
    elif not after <= now < before:
        wrong = "it is not valid at this time"
    elif not named:
        wrong = f"it is for {', '.join(principals) or 'nobody'}, not for {identity.address}"
    elif options:
        wrong = "it has critical options that are not known"
    else:
        wrong = ""
    return key, authority, f"{wrong} ({key_id!r})" if wrong else ""


def _strings(packed: bytes) -> list[str]:
    message, strings = Message(packed), []
    while message.get_remainder():
        strings.append(message.get_text())
    return strings


def _signed_by(authority: bytes, signed: bytes, signature: bytes) -> bool:
    if Message(signature).get_text() not in _SIGNATURES:
        return False
    try:
        key = PKey.from_type_string(Message(authority).get_text(), authority)
        return bool(key.verify_ssh_sig(signed, Message(signature)))
    except (SSHException, UnknownKeyType, ValueError):
        return False


def _short(keytype: str) -> str:
    return "ecdsa" if keytype.startswith("ecdsa") else keytype.removeprefix("ssh-")


def _append(identity: Identity, keytype: str, key: bytes) -> None:
    """Adds the key to the first known_hosts file: 0600, synced, no line torn."""
    file = identity.files[0]
    name = identity.name
    if identity.hashed:
        salt = os.urandom(20)
        digest = hmac.new(salt, name.encode(), "sha1").digest()
        name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    line = f"{name} {keytype} {base64.b64encode(key).decode()}\n"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        torn = file.exists() and not file.read_bytes().endswith((b"\n",)) and file.stat().st_size
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write((("\n" if torn else "") + line).encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise TrustError(
            f"{file} cannot be written: {error.strerror}; the key of {identity.host} was not kept",
            host=identity.host,
            hint=f"Make {file} writable, or add the key to it yourself.",
        ) from error
