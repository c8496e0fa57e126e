"""The way to a host: every hop verified before anything is sent, the keys the inventory names.

Jump hosts are shared by all hosts behind them.
"""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import Agent, MissingHostKeyPolicy, PKey, SSHClient, SSHConfig
from paramiko.auth_strategy import AuthFailure, AuthSource, AuthStrategy, InMemoryPrivateKey
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import AuthenticationException, SSHException

from runbook.errors import Unreachable
from runbook.ssh.hostkeys import FirstContact, Identity, preferred, verify
from runbook.ssh.remote import ChannelRunner, Link
from runbook.ssh.route import Hop


class Dialler:
    """Opens connections hop by hop, every hop verified, jump hosts shared by all behind them."""

    def __init__(self, on_first_contact: FirstContact | None, keepalive: float) -> None:
        self._ask = on_first_contact
        self._keepalive = keepalive
        self._contact = threading.Lock()
        self._keyring = _Keyring()
        self._jumps: dict[tuple[Hop, ...], _Jump] = {}
        self._lock = threading.Lock()

    def reach(self, hops: tuple[Hop, ...]) -> Connection:
        """A connection to the last hop. Unreachable, TrustError."""
        hop = hops[-1]
        try:
            try:
                return self._connect(hops)
            except _AskedTooLong:
                return self._connect(hops)
        except AuthenticationException as error:
            raise self._refusal(hop, error) from error
        except socket.gaierror as error:
            raise Unreachable(
                f"the name {hop.address} is not known: {error.strerror}",
                hint="Correct `address` in the inventory, or HostName in ssh_config.",
            ) from error
        except TimeoutError as error:
            raise Unreachable(
                f"no answer from {hop.address} port {hop.port} within {hop.timeout:g} s",
                hint=f"Try `ssh -v {hop.user}@{hop.address} -p {hop.port}`.",
            ) from error
        except (SSHException, OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it closed the connection"
            raise Unreachable(
                f"no connection to {hop.address} port {hop.port}: {reason}",
                hint=f"Try `ssh -v {hop.user}@{hop.address} -p {hop.port}`.",
            ) from error

    def close(self) -> None:
        with self._lock:
            for jump in self._jumps.values():
                if jump.connection is not None:
                    with contextlib.suppress(OSError, EOFError, SSHException):
                        jump.connection.close()
            self._jumps.clear()

    def _connect(self, hops: tuple[Hop, ...]) -> Connection:
        hop = hops[-1]
        sock = self._socket(hops)
        policy = _Verified(hop.identity, self._ask, self._contact)

        def transport(sock: Any, **options: Any) -> Link:
            link = Link(sock, **options)
            link.prefer(preferred(hop.identity, link.get_security_options().key_types))
            return link

        keys = _Keys(hop, self._keyring)
        connection = Connection(
            hop.address,
            user=hop.user,
            port=hop.port,
            config=_config(),
            gateway=False,
            forward_agent=False,
            connect_timeout=max(1, math.ceil(hop.timeout)),
            connect_kwargs={
                "sock": sock,
                "transport_factory": transport,
                "auth_strategy": keys,
                "banner_timeout": hop.timeout,
                "auth_timeout": hop.timeout,
                "channel_timeout": hop.timeout,
            },
        )
        connection.client.set_missing_host_key_policy(policy)
        try:
            connection.open()
            if not connection.transport.is_authenticated():
                raise AuthenticationException("it wants more than a key")
        except BaseException as error:
            connection.client.close()
            sock.close()
            lost = isinstance(error, SSHException | OSError | EOFError)
            if policy.asked and lost and not keys.heard:
                raise _AskedTooLong from error
            raise
        finally:
            keys.close()
        connection.transport.keep_alive(self._keepalive)
        return connection

    def _socket(self, hops: tuple[Hop, ...]) -> Any:
        hop = hops[-1]
        if len(hops) > 1:
            transport = self._jump(hops[:-1]).transport
            try:
                return transport.open_channel(
                    "direct-tcpip", (hop.address, hop.port), ("", 0), timeout=hop.timeout
                )
            except SSHException as error:
                raise Unreachable(
                    f"the jump host {hops[-2].place} cannot reach {hop.address}:{hop.port}: {error}"
                ) from error
        if hop.command:
            return _piped(hop.command)
        return _dialled(hop, self._keepalive)

    def _jump(self, hops: tuple[Hop, ...]) -> Connection:
        with self._lock:
            jump = self._jumps.setdefault(hops, _Jump())
        with jump.lock:
            if jump.connection is None or not jump.connection.is_connected:
                jump.connection = self.reach(hops)
            return jump.connection

    def _refusal(self, hop: Hop, error: AuthenticationException) -> Unreachable:
        tried = len(error.result) if isinstance(error, AuthFailure) else 1
        offered = f"{tried} key{'s' if tried != 1 else ''} offered" if tried else "no key to offer"
        detail = "" if isinstance(error, AuthFailure) else f": {error}"
        locked = self._keyring.locked(hop)
        return Unreachable(
            f"{hop.place} does not let {hop.user} in ({offered}){detail}",
            hint=(
                f"{locked} has a passphrase: `ssh-add {locked}` first."
                if locked
                else f"Try `ssh {hop.user}@{hop.address} -p {hop.port}`, or name the user and key "
                "in the inventory."
            ),
        )


def _config() -> Config:
    """A configuration of one connection's own: Fabric's changes while it is read (0.2 ms each).

    Lazy: no configuration file of Fabric's or Invoke's has a say here.
    """
    return Config(
        overrides={"runners": {"remote": ChannelRunner}}, ssh_config=SSHConfig(), lazy=True
    )


class _AskedTooLong(Exception):
    """The host hung up while the operator compared its key; the key is known now."""


class _Jump:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None


def _dialled(hop: Hop, keepalive: float) -> socket.socket:
    """A TCP connection without Nagle's delay that dies when nothing is acknowledged any more."""
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        hop.address, hop.port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                milliseconds = int(3000 * keepalive)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            sock.settimeout(hop.timeout)
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last


def _piped(command: str) -> socket.socket:
    """The socket of a ProxyCommand: a real one, so that it can be polled and ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S602 - ssh_config says it is a shell's command line
            f"exec {command}",
            shell=True,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,  # the screen is not its place
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()
    return ours


class _Verified(MissingHostKeyPolicy):
    """Paramiko's door to us: it knows no host key at all, so every key comes here."""

    def __init__(
        self, identity: Identity, ask: FirstContact | None, contact: threading.Lock
    ) -> None:
        self._identity = identity
        self._ask = ask
        self._contact = contact
        self.asked = False

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        link = client.get_transport()
        blob = link.host_blob if isinstance(link, Link) else key.asbytes()
        try:
            verify(self._identity, blob, self._unknown)
        except _Unknown:
            # one question at a time; the one before may have been about the same jump host
            with self._contact:
                verify(self._identity, blob, self._question)

    def _unknown(self, keytype: str, fingerprint: str) -> bool:
        raise _Unknown

    def _question(self, keytype: str, fingerprint: str) -> bool:
        self.asked = True
        return bool(self._ask and self._ask(self._identity.host, keytype, fingerprint))


class _Unknown(Exception):
    """Nothing is known of the host's key."""


class _Keyring:
    """Private keys, each read once."""

    def __init__(self) -> None:
        self._keys: dict[str, PKey | None] = {}
        self._lock = threading.Lock()

    def load(self, file: str) -> PKey | None:
        """The key; None when it is not there, has a passphrase or is of an unknown kind."""
        with self._lock:
            if file not in self._keys:
                try:
                    self._keys[file] = PKey.from_path(Path(file).expanduser())
                except (OSError, TypeError, ValueError, SSHException, UnknownKeyType):
                    # a TypeError is how `cryptography` asks for a passphrase
                    self._keys[file] = None
            return self._keys[file]

    def locked(self, hop: Hop) -> str:
        """The first key of the hop that is there and could not be loaded."""
        for file in hop.keys:
            if self._keys.get(file, ...) is None and Path(file).expanduser().is_file():
                return file
        return ""


class _Keys(AuthStrategy):
    """The keys to offer: named files first, then the agent's, then the usual files."""

    def __init__(self, hop: Hop, keyring: _Keyring) -> None:
        super().__init__(ssh_config=SSHConfig())
        self._hop = hop
        self._keyring = keyring
        self._agent: Agent | None = None
        self.heard = False

    def get_sources(self) -> Iterator[AuthSource]:
        hop = self._hop
        offered: set[bytes] = set()
        for key in self._candidates():
            if key.asbytes() not in offered:
                offered.add(key.asbytes())
                yield InMemoryPrivateKey(hop.user, key)

    def _candidates(self) -> Iterator[PKey]:
        hop = self._hop
        if hop.named:
            for file in hop.keys:
                key = self._keyring.load(file) or self._from_agent(file)
                if key is not None:
                    yield key
        if hop.agent and not hop.only:
            yield from self._agent_keys()
        if not hop.named:
            yield from filter(None, map(self._keyring.load, hop.keys))

    def _agent_keys(self) -> tuple[PKey, ...]:
        if not self._hop.agent:
            return ()
        if self._agent is None:
            self._agent = Agent()
        return tuple(self._agent.get_keys())

    def _from_agent(self, file: str) -> PKey | None:
        """The agent's key that belongs to a file with a passphrase, told by its .pub."""
        try:
            words = Path(f"{file}.pub").expanduser().read_text().split()
        except (OSError, UnicodeDecodeError):
            return None
        for key in self._agent_keys():
            if len(words) > 1 and key.get_base64() == words[1]:
                return key
        return None

    def authenticate(self, transport: Any) -> Any:
        try:
            return super().authenticate(transport)
        finally:
            self.heard = bool(transport.is_active())

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
