"""Name servers: questions to each of them, and signed updates.

dnspython is imported when a question is asked, not before: it costs a fifth of a second.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from runbook.errors import LinkLost, RunbookError, StateRefuses, Unreachable, UsageError
from runbook.model import Answer, Dns, DnsChange, Query, Secret, SecretRef, Tsig

if TYPE_CHECKING:
    import dns.message

TIMEOUT = 3.0
"""Seconds for one attempt at one server."""
ATTEMPTS = 2
WORKERS = 16
EDNS = 1232
"""Bytes of a UDP answer that no path fragments (DNS flag day 2020)."""


# --- asking and updating --------------------------------------------------------------------------


class NameServers:
    """The site's name servers. `secrets` resolves the TSIG key, once, when an update needs it."""

    def __init__(
        self,
        settings: Dns,
        secrets: Callable[[SecretRef], Secret],
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._timeout = timeout
        self._key: Secret | None = None
        self._lock = threading.Lock()

    def ask(self, queries: Iterable[Query]) -> Mapping[Query, Answer]:
        """The answer to each, asked side by side; a server that does not answer is an error."""
        wanted = tuple(dict.fromkeys(queries))
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(WORKERS, len(wanted)), "dns") as pool:
            return dict(zip(wanted, pool.map(self._ask, wanted), strict=True))

    def apply(self, change: DnsChange) -> None:
        """Replaces the records, if they still are what the plan saw (RFC 2136 section 2.4).

        StateRefuses when they are not, Unreachable when the server was not reached, LinkLost when
        it did not say whether it did it, RunbookError when it refuses. Done already is done.
        """
        import dns.exception
        import dns.query
        import dns.rcode
        import dns.tsig

        if change.keep:
            now = self._ask(Query(change.name, change.rtype, change.server))
            if not now.records:
                said = now.error or f"it has no {change.rtype}"
                raise StateRefuses(f"{change.name}: {said}", host=change.server)
            if now.ttl == change.ttl:
                return
            change = replace(change, records=now.records, before=now.records)
        address, port = _address(change.server, change.server)
        update = self._update(change)
        try:
            # TCP: a datagram that is lost would leave open whether the update was
            response = dns.query.tcp(update, address, timeout=self._timeout * ATTEMPTS, port=port)
        except dns.tsig.PeerError as error:
            raise RunbookError(
                f"the name server refuses the key: {type(error).__name__}",
                host=change.server,
                hint="Compare name, algorithm and secret of `tsig` with the server's; and clocks.",
            ) from error
        except dns.tsig.BadSignature as error:
            raise LinkLost("the answer is not signed with our key", host=change.server) from error
        except ConnectionRefusedError as error:
            raise Unreachable(f"no name server at {address}:{port}", host=change.server) from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            if self._is(change):
                return
            raise LinkLost(
                f"the name server did not say whether it updated {change.name} ({_reason(error)})",
                host=change.server,
                hint=f"dig @{address} -p {port} {change.name} {change.rtype}",
            ) from error
        code = response.rcode()
        if code == dns.rcode.NOERROR:
            return
        moved = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
        if code in moved:
            if self._is(change):
                return
            raise StateRefuses(
                f"{change.name} {change.rtype} is no longer what the plan saw",
                host=change.server,
                hint="Plan again: somebody else changed it.",
            )
        raise RunbookError(
            f"the name server refuses to update {change.name}: {dns.rcode.to_text(code)}",
            host=change.server,
            hint=f"It must be authoritative for {change.zone} and allow updates with this key.",
        )

    def _is(self, change: DnsChange) -> bool:
        """Whether the records are what the change makes them."""
        answer = self._ask(Query(change.name, change.rtype, change.server))
        if answer.error not in ("", "NXDOMAIN"):
            return False
        if change.keep:
            return answer.ttl == change.ttl
        return _normal(change.rtype, answer.records) == _normal(change.rtype, change.records)

    def _update(self, change: DnsChange) -> dns.message.Message:
        import dns.exception
        import dns.name
        import dns.update

        try:
            update = dns.update.UpdateMessage(change.zone)
            name = dns.name.from_text(change.name)
            if change.before:
                update.present(name, change.rtype, *change.before)
            else:
                update.absent(name, change.rtype)
            if change.records:
                update.replace(name, change.ttl, change.rtype, *change.records)
            else:
                update.delete(name, change.rtype)
        except (dns.exception.DNSException, ValueError) as error:
            raise UsageError(f"the records of {change.name} make no update: {error}") from error
        if self._settings.tsig:
            self._sign(update, self._settings.tsig)
        return update

    def _sign(self, update: dns.message.Message, tsig: Tsig) -> None:
        import dns.exception
        import dns.name
        import dns.tsig

        with self._lock:
            self._key = self._key or self._secrets(tsig.secret)
        try:
            algorithm = dns.name.from_text(tsig.algorithm)
            known = algorithm in dns.tsig.mac_sizes
        except dns.exception.DNSException:
            known = False
        if not known:
            raise UsageError(
                f"{tsig.algorithm!r} is no TSIG algorithm", hint="The usual one is hmac-sha256."
            )
        try:
            key = dns.tsig.Key(tsig.name, self._key.reveal(), algorithm)
        except (ValueError, dns.exception.DNSException):
            key = None  # what it says may quote the secret
        if key is None:
            raise UsageError(
                f"the TSIG key {tsig.name} is not base64",
                hint="Give the `secret` of the key file as it stands there.",
            )
        update.use_tsig(key)

    # --- one question ---------------------------------------------------------------------------

    def _ask(self, query: Query) -> Answer:
        import dns.exception
        import dns.message
        import dns.rcode
        import dns.resolver

        try:
            name = _question(query)
            if query.server:
                response = self._from_server(query, name)
            else:
                response = self._from_resolver(query, name)
            code = response.rcode()
            if code != dns.rcode.NOERROR:
                authoritative = _authoritative(response)
                return Answer(error=dns.rcode.to_text(code), authoritative=authoritative)
            chain = response.resolve_chaining()
        except (dns.exception.DNSException, OSError, EOFError, ValueError, Unreachable) as error:
            return Answer(error=_reason(error))
        records = tuple(sorted(r.to_text() for r in chain.answer)) if chain.answer else ()
        return Answer(
            records,
            chain.minimum_ttl if records else 0,
            authoritative=_authoritative(response),
        )

    def _from_server(self, query: Query, name: str) -> dns.message.QueryMessage:
        import dns.exception
        import dns.message
        import dns.query

        address, port = _address(query.server, query.server)
        message = dns.message.make_query(name, query.rtype, use_edns=0, payload=EDNS)
        for attempt in range(ATTEMPTS):
            try:
                response, _ = dns.query.udp_with_fallback(
                    message, address, timeout=self._timeout, port=port
                )
            except dns.exception.Timeout:
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                break
        assert isinstance(response, dns.message.QueryMessage)  # noqa: S101 - what a query gets
        return response

    def _from_resolver(self, query: Query, name: str) -> dns.message.QueryMessage:
        import dns.resolver

        resolver = dns.resolver.Resolver()
        resolver.lifetime = self._timeout * ATTEMPTS
        resolver.use_edns(0, 0, EDNS)
        try:
            answer = resolver.resolve(name, query.rtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            responses: Mapping[object, dns.message.QueryMessage] = error.kwargs["responses"]
            return next(iter(responses.values()))
        return answer.response


def _question(query: Query) -> str:
    """The name to ask for, made absolute; an address asks for its reverse name."""
    if query.rtype.upper() == "PTR":
        try:
            return ipaddress.ip_address(query.name).reverse_pointer + "."
        except ValueError:
            pass
    return query.name.rstrip(".") + "."


def _address(server: str, host: str) -> tuple[str, int]:
    """Address and port of "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53" or a name."""
    try:
        return str(ipaddress.ip_address(server)), 53
    except ValueError:
        pass
    name, _, port = server.rpartition(":") if ":" in server else (server, "", "53")
    try:
        number = int(port)
        found = socket.getaddrinfo(name.strip("[]"), number, type=socket.SOCK_DGRAM)
    except (ValueError, OSError) as error:
        raise Unreachable(f"{server} is no name server's address", host=host) from error
    return str(found[0][4][0]), number


def _authoritative(response: dns.message.Message) -> bool:
    import dns.flags

    return bool(response.flags & dns.flags.AA)


def _normal(rtype: str, records: Iterable[str]) -> set[str]:
    """Records as the server would print them, so that they can be compared."""
    import dns.rdata

    return {dns.rdata.from_text("IN", rtype, r).to_text().lower() for r in records}


def _reason(error: BaseException) -> str:
    import dns.exception

    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
