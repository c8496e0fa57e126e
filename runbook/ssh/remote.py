"""Paramiko and Fabric at full speed: a link that notices its death, a runner without threads.

Fabric as it comes waits 40 ms per command on Nagle's algorithm and polls with sleeps in three
threads; the runner here reads the channel in the calling thread. Paramiko's own keepalive asks for
no reply and so never notices that nobody is there; ours does.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any, Protocol

from fabric.runners import Remote
from paramiko import Channel, Message, Transport
from paramiko.common import cMSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from runbook.errors import LinkLost, Unreachable
from runbook.ssh.frame import Talk

CHUNK = 131_072
WINDOW = 1 << 20
"""Bytes a host may send ahead of what we read: the bound on what a flood costs."""
IDLE_POLL = 2.0
"""Seconds between looks at an idle connection; 50 of them cost 4 % CPU at paramiko's 0.1 s."""
STRAY = 1.0
"""Seconds of silence after the exit status that end a command whose streams stay open."""
UNANSWERED = 2
"""Keepalives without an answer after which the link is dead at the next one."""


class _Packets(Packetizer):
    """Remembers that the other side was heard."""

    unanswered = 0

    def read_message(self) -> Any:
        message = super().read_message()
        self.unanswered = 0
        return message


class Link(Transport):
    """A transport that keeps the host's key as it was sent, and dies when nobody answers."""

    _active_check_timeout = IDLE_POLL
    packetizer: Any
    _key_info: Any
    _send_user_message: Any

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, default_window_size=WINDOW, packetizer_class=_Packets, **options)
        self.host_blob = b""

    def prefer(self, algorithms: list[str]) -> None:
        """Ask for these host key algorithms, best first; certificates may be among them."""
        self._preferred_keys = tuple(a for a in algorithms if a in self._key_info)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        if self.host_blob and host_key != self.host_blob:
            raise SSHException("the host shows another key in the middle of the connection")
        super()._verify_key(host_key, sig)  # type: ignore[misc]
        self.host_blob = host_key

    def keep_alive(self, seconds: float) -> None:
        """Ask for a sign of life after so much silence; three times that without one is death."""
        packets = self.packetizer

        def ask() -> None:
            if packets.unanswered >= UNANSWERED:
                raise EOFError("no answer")
            packets.unanswered += 1
            message = Message()
            message.add_byte(cMSG_GLOBAL_REQUEST)
            message.add_string("keepalive@openssh.com")
            message.add_boolean(True)
            self._send_user_message(message)

        self._active_check_timeout = min(IDLE_POLL, seconds)
        self.sock.settimeout(self._active_check_timeout)
        packets.set_keepalive(seconds, ask)

    def close(self) -> None:
        # closing alone would leave the reading thread in its poll
        with contextlib.suppress(OSError, EOFError):
            self.sock.shutdown(socket.SHUT_RDWR)
        super().close()


class Conversation(Talk, Protocol):
    """A talk that also sends: bytes put into `outbox` go to the channel's stdin."""

    command: str
    outbox: list[bytes]


class ChannelRunner(Remote):  # type: ignore[misc]
    """Fabric's runner, reading in the calling thread; installed as `config.runners.remote`.

    `run(command, talk=...)` returns the exit status, -1 when there was none because the talk was
    done first or a signal ended the command. LinkLost when the connection broke.
    """

    def run(self, command: str, *, talk: Conversation, host: str = "") -> int:
        channel: Channel | None = None
        try:
            channel = self.context.create_session()
            channel.settimeout(60.0)
            descriptor = channel.fileno()
            _execute(channel, command)
            return self._converse(channel, descriptor, talk, host)
        except (SSHException, OSError, EOFError) as error:
            raise LinkLost(
                f"the connection broke: {str(error) or type(error).__name__}", host=host
            ) from error
        finally:
            if channel is not None:
                channel.close()

    def _converse(self, channel: Channel, descriptor: int, talk: Conversation, host: str) -> int:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while True:
            while talk.outbox:
                channel.sendall(talk.outbox.pop(0))
            ended = channel.eof_received or channel.closed
            heard = False
            if channel.recv_stderr_ready():  # first: it may be sudo that asks
                talk.err(channel.recv_stderr(CHUNK))
                heard = True
            if channel.recv_ready():
                talk.out(channel.recv(CHUNK))
                heard = True
            if talk.done:
                return -1
            if heard:
                if time.monotonic() >= talk.due():
                    talk.late()
                continue
            if ended:
                return self._end(channel, host)
            wait = talk.due() - time.monotonic()
            if wait <= 0:
                talk.late()
                if talk.done:
                    return -1
                wait = 0.01
            exited = channel.status_event.is_set()
            wait = min(wait, STRAY if exited else 60.0)
            if not talk.outbox and not poll.poll(wait * 1000) and exited:
                return self._end(channel, host)  # a stray child holds the streams open

    def _end(self, channel: Any, host: str) -> int:
        """The exit status, which follows the end of both streams."""
        deadline = time.monotonic() + 10.0
        while not channel.closed and time.monotonic() < deadline:
            if channel.status_event.wait(0.05):
                break
        if channel.exit_status >= 0:
            return int(channel.exit_status)
        time.sleep(0.1)  # a transport that dies closes its channels first
        if not channel.transport.is_active():
            raise LinkLost("the connection broke", host=host)
        if not channel.eof_received:
            raise Unreachable(
                "the host refuses to run commands",
                host=host,
                hint="Look for ForceCommand and PermitTTY in its sshd_config and authorized_keys.",
            )
        return -1


def _execute(channel: Any, command: str) -> None:
    """Asks for `command` and does not wait for the reply: one round trip less.

    A refusal closes the channel (RFC 4254 section 6.5; paramiko does it for us). Waiting for the
    reply as `exec_command` does has no timeout.
    """
    message = Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(command)
    channel._event_pending()
    channel.transport._send_user_message(message)
