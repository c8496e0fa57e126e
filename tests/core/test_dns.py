"""Name servers: a real server on loopback that answers and updates."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest

from runbook.dns import NameServers
from runbook.errors import LinkLost, RunbookError, StateRefuses, Unreachable, UsageError
from runbook.model import Dns, DnsChange, Query, Secret, SecretRef, Tsig

# --- a server -----------------------------------------------------------------------------------

SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
KEY = Tsig("runbook.", "hmac-sha256", SecretRef("env", "KEY"))


class Server:
    """An authoritative server for lab.test. on loopback, UDP and TCP, with signed updates."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, str], list[str]] = {("www.lab.test.", "A"): ["192.0.2.1"]}
        self.ttl = 300
        self.mute = False  # answers nothing at all
        self.hangs_up = False  # does an update and says nothing
        self.over_tcp = 0
        self._keys = {
            dns.name.from_text(KEY.name): dns.tsig.Key(KEY.name, SECRET, KEY.algorithm),
        }
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._threads = [
            threading.Thread(target=self._serve_udp),
            threading.Thread(target=self._serve_tcp),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self.mute = False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(65535)
            if not data:
                return
            if not self.mute:
                wire = self._respond(data)
                if len(wire) > 1232:
                    short = dns.message.make_response(dns.message.from_wire(data))
                    short.flags |= dns.flags.TC | dns.flags.AA
                    wire = short.to_wire()
                self._udp.sendto(wire, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            with sock:
                self.over_tcp += 1
                size = int.from_bytes(sock.recv(2))
                data = b""
                while len(data) < size:
                    data += sock.recv(size - len(data))
                wire = self._respond(data)
                if not self.hangs_up:
                    sock.sendall(len(wire).to_bytes(2) + wire)

    def _respond(self, data: bytes) -> bytes:
        try:
            message = dns.message.from_wire(data, keyring=self._keys)
        except dns.message.UnknownTSIGKey:
            message = dns.message.from_wire(data, keyring=False)
            return self._refuse(message, dns.rcode.NOTAUTH)
        except dns.exception.DNSException:
            message = dns.message.from_wire(data, keyring=False)
            return self._refuse(message, dns.rcode.REFUSED)
        if message.opcode() == dns.opcode.UPDATE:
            return self._update(message)
        response = dns.message.make_response(message)
        response.flags |= dns.flags.AA
        question = message.question[0]
        name, rtype = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
        if not any(known == name for known, _ in self.data):
            response.set_rcode(dns.rcode.NXDOMAIN)
        while (name, "CNAME") in self.data and rtype != "CNAME":
            to = self.data[name, "CNAME"]
            response.answer.append(dns.rrset.from_text(name, 30, "IN", "CNAME", *to))
            name = to[0]
        if (name, rtype) in self.data:
            rrset = dns.rrset.from_text(name, self.ttl, "IN", rtype, *self.data[name, rtype])
            response.answer.append(rrset)
        return response.to_wire(max_size=65535)

    def _refuse(self, message: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
        response = dns.message.Message(id=message.id)
        response.flags = dns.flags.QR | dns.flags.from_text("")
        response.set_opcode(message.opcode())
        response.set_rcode(code)
        return response.to_wire()

    def _update(self, message: dns.message.Message) -> bytes:
        response = dns.message.make_response(message)
        if not message.had_tsig:
            response.set_rcode(dns.rcode.REFUSED)
            return response.to_wire()
        wanted: dict[tuple[str, str], list[str]] = {}
        for rrset in message.sections[1]:  # prerequisites, RFC 2136 section 2.4
            key = str(rrset.name).lower(), dns.rdatatype.to_text(rrset.rdtype)
            if rrset.deleting == dns.rdataclass.NONE:
                wanted[key] = []
            else:
                wanted.setdefault(key, []).extend(r.to_text() for r in rrset)
        for key, records in wanted.items():
            if sorted(self.data.get(key, [])) != sorted(records):
                code = dns.rcode.NXRRSET if records else dns.rcode.YXRRSET
                response.set_rcode(code)
                return response.to_wire()
        for rrset in message.sections[2]:
            key = str(rrset.name).lower(), dns.rdatatype.to_text(rrset.rdtype)
            if rrset.deleting == dns.rdataclass.ANY:
                self.data.pop(key, None)
            else:
                self.data.setdefault(key, []).extend(r.to_text() for r in rrset)
                self.ttl = rrset.ttl
        return response.to_wire()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def names(tsig: Tsig | None = KEY, secret: str = SECRET) -> NameServers:
    return NameServers(Dns(tsig=tsig), lambda _: Secret(secret), timeout=0.5)


def change(server: Server, **fields: object) -> DnsChange:
    values: dict[str, object] = {
        "server": server.name,
        "zone": "lab.test",
        "name": "www.lab.test",
        "rtype": "A",
        "ttl": 60,
        "records": ("192.0.2.2", "192.0.2.3"),
        "before": ("192.0.2.1",),
    }
    return DnsChange(**{**values, **fields})  # type: ignore[arg-type]


def test_answers(server: Server) -> None:
    server.data |= {
        ("alias.lab.test.", "CNAME"): ["www.lab.test."],
        ("_x-puppet._tcp.lab.test.", "SRV"): ["0 9 8140 b.", "0 10 8140 a."],
        ("1.2.0.192.in-addr.arpa.", "PTR"): ["www.lab.test."],
    }
    queries = {
        "a": Query("www.lab.test", "A", server.name),
        "alias": Query("alias.lab.test.", "A", server.name),
        "srv": Query("_x-puppet._tcp.lab.test", "SRV", server.name),
        "no type": Query("www.lab.test", "AAAA", server.name),
        "no name": Query("none.lab.test", "A", server.name),
        "reverse": Query("192.0.2.1", "PTR", server.name),
        "bad": Query("a..b", "A", server.name),
        "nobody": Query("www.lab.test", "A", "no server here"),
    }
    answers = names().ask([*queries.values(), queries["a"]])
    got = {key: answers[query] for key, query in queries.items()}
    assert (got["a"].records, got["a"].ttl, got["a"].error) == (("192.0.2.1",), 300, "")
    assert got["a"].authoritative
    assert (got["alias"].records, got["alias"].ttl) == (("192.0.2.1",), 30)
    assert got["srv"].records == ("0 10 8140 a.", "0 9 8140 b.")
    assert (got["no type"].records, got["no type"].error) == ((), "")
    assert got["no name"].error == "NXDOMAIN" and got["no name"].authoritative
    assert got["reverse"].records == ("www.lab.test.",)
    assert got["bad"].error and got["nobody"].error
    assert names().ask([]) == {}


def test_a_long_answer_comes_over_tcp(server: Server) -> None:
    records = [f"192.0.2.{n}" for n in range(200)]
    server.data["many.lab.test.", "A"] = records
    query = Query("many.lab.test", "A", server.name)
    assert names().ask([query])[query].records == tuple(sorted(records))
    assert server.over_tcp == 1


def test_a_silent_server_is_a_timeout_and_holds_nobody_up(server: Server) -> None:
    other = Server()
    try:
        other.mute = True
        good, bad = Query("www.lab.test", "A", server.name), Query("x.", "A", other.name)
        answers = names().ask([bad, good])
        assert answers[bad].error == "timeout" and answers[good].records
    finally:
        other.close()


def test_an_update_is_signed_and_done(server: Server) -> None:
    names().apply(change(server))
    assert sorted(server.data["www.lab.test.", "A"]) == ["192.0.2.2", "192.0.2.3"]
    assert server.ttl == 60
    before = ("192.0.2.2", "192.0.2.3")
    names().apply(change(server, records=(), before=before))
    assert ("www.lab.test.", "A") not in server.data
    names().apply(change(server, records=("192.0.2.9",), before=()))
    assert server.data["www.lab.test.", "A"] == ["192.0.2.9"]


def test_only_the_ttl_changes_whatever_the_records_are(server: Server) -> None:
    server.data["www.lab.test.", "A"] = ["192.0.2.9", "192.0.2.8"]
    names().apply(change(server, records=(), before=(), ttl=77, keep=True))
    assert sorted(server.data["www.lab.test.", "A"]) == ["192.0.2.8", "192.0.2.9"]
    assert server.ttl == 77
    with pytest.raises(StateRefuses, match="NXDOMAIN"):
        names().apply(change(server, name="none.lab.test", records=(), before=(), keep=True))


def test_records_that_moved_are_left_alone(server: Server) -> None:
    server.data["www.lab.test.", "A"] = ["192.0.2.77"]
    for before in (("192.0.2.1",), ()):
        with pytest.raises(StateRefuses, match="no longer what the plan saw"):
            names().apply(change(server, before=before))
    assert server.data["www.lab.test.", "A"] == ["192.0.2.77"]


def test_an_update_that_was_done_already_is_done(server: Server) -> None:
    server.data["www.lab.test.", "A"] = ["192.0.2.3", "192.0.2.2"]
    names().apply(change(server))


def test_a_server_that_hangs_up_is_asked_what_it_did(server: Server) -> None:
    server.hangs_up = True
    names().apply(change(server))  # it was done
    server.data["www.lab.test.", "A"] = ["192.0.2.77"]
    with pytest.raises(LinkLost, match="did not say"):
        names().apply(change(server))


def test_updates_that_are_refused(server: Server) -> None:
    with pytest.raises(RunbookError, match="REFUSED"):
        names(tsig=None).apply(change(server))
    other = base64.b64encode(b"another secret of the same size!").decode()
    with pytest.raises(RunbookError):
        names(secret=other).apply(change(server))
    with pytest.raises(UsageError, match="base64") as error:
        names(secret="not base64 at all!").apply(change(server))
    assert "not base64 at all" not in repr(error.value.__cause__ or error.value.__context__)
    with pytest.raises(UsageError, match="hmac-foo"):
        names(Tsig("runbook.", "hmac-foo", KEY.secret)).apply(change(server))
    with pytest.raises(UsageError, match="no update"):
        names().apply(change(server, records=("not an address",)))
    assert server.data["www.lab.test.", "A"] == ["192.0.2.1"]


def test_no_server_at_all(server: Server) -> None:
    gone = Server()
    gone.close()
    with pytest.raises(Unreachable, match="no name server"):
        names().apply(change(gone))
