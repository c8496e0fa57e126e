"""What is known of the estate during a run: reading, hosts that stay silent, findings.

A host that does not answer and a blocker that is found are the operator's to decide: nothing is
passed over silently, and what is left out stays visible to the end.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable

from runbook.crew import Crew
from runbook.errors import NotTried, RunbookError, TrustError, Unreachable
from runbook.model import Check, Facts, Finding, Runbook, Severity, Site, Step, plain
from runbook.ports import Choice, Question
from runbook.recorder import Recorder
from runbook.symbols import count

WAIVE = Choice("waive", "Go on all the same, this run; says why", needs_text=True)
"""Not offered by a held step: there, only the inventory's waivers count, which have an end."""
QUIT = Choice("quit", "Quit; pmrunbook --resume goes on")


class Scout:
    """The facts of one run, kept fresh."""

    def __init__(
        self,
        site: Site,
        runbook: Runbook,
        recorder: Recorder,
        crew: Crew,
        today: Callable[[], datetime.date] = datetime.date.today,
    ) -> None:
        self.facts = Facts()
        self._site = site
        self._runbook = runbook
        self._rec = recorder
        self._crew = crew
        self._today = today

    def hosts(self) -> tuple[str, ...]:
        """All hosts but those left out."""
        return tuple(h.name for h in self._site.hosts if h.name not in self._rec.state.excluded)

    def checks(self, ask: Callable[[Site, Facts], tuple[Check, ...]]) -> tuple[Check, ...]:
        """The checks of a step or stage, as if the hosts left out were not there.

        So what looks at several hosts still looks at the others.
        """
        out = self._rec.state.excluded
        checks = ask(self._site, self.facts.without(out))
        return tuple(c for c in checks if not any(host in out for host, _ in c.reads))

    def begin(self, steps: Iterable[Step]) -> None:
        """Read every host for all these steps at once: one round trip a host."""
        self.facts = self._gather(tuple(steps), self.hosts())

    def refresh(self, step: Step, hosts: Collection[str] = ()) -> None:
        """Read these hosts again, and every host that was changed since it was read."""
        again = set(hosts) | self._crew.touched
        self.facts = self.facts.merged(
            self._gather((step,), [h for h in self.hosts() if h in again])
        )

    def _gather(self, steps: tuple[Step, ...], hosts: Collection[str]) -> Facts:
        wanted = {
            name: [r for step in steps for r in step.reads(self._site, self._site.host(name))]
            for name in hosts
        }
        # A check's own reads do not count: they are not all that a plan stands on.
        self._crew.touched.difference_update(hosts)
        queries = [q for step in steps for q in step.queries(self._site)]
        return self._crew.gather(wanted, queries, steps[0].id if len(steps) == 1 else "")

    # --- hosts that stay silent -------------------------------------------------------------------

    def silent(self, step: Step) -> tuple[str, ...]:
        """The hosts this step reads that could not be read."""
        return tuple(
            name
            for name in self.hosts()
            if not self.facts.reachable(name) and step.reads(self._site, self._site.host(name))
        )

    def reach(self, step: Step) -> None:
        """Go on only when all hosts this step reads answer, or the operator left them out."""
        while silent := self.silent(step):
            causes = {name: self._crew.troubles.get(name) for name in silent}
            lines = [f"{name}: {e.what if e else 'not read'}" for name, e in causes.items()]
            hints = sorted({e.hint for e in causes.values() if e and e.hint})
            out = Choice("exclude", "Leave them out, shown to the end", needs_text=True)
            reply = self._rec.ask(
                Question(
                    "failure",
                    f"{count(len(silent), 'host')} cannot be read",
                    "\n".join([*lines, *hints]),
                    (
                        Choice("retry", "Try again"),
                        Choice("shell", f"Shell on {silent[0]}"),
                        *((out,) if all(map(self.may_exclude, silent)) else ()),
                        QUIT,
                    ),
                    step=step.id,
                    host=silent[0],
                )
            )
            if reply.key == "quit":
                known = [e for e in causes.values() if e]
                worst = [e for e in known if isinstance(e, TrustError)]
                known.sort(key=lambda e: isinstance(e, NotTried))
                raise next(iter([*worst, *known]), Unreachable("hosts cannot be read"))
            if reply.key == "exclude":
                for name in silent:
                    self.exclude(name, reply.text or "does not answer")
            else:
                self.refresh(step, silent)

    def may_exclude(self, host: str) -> bool:
        """All hosts of the site but the one nothing goes without."""
        return host in self._site and host != self._runbook.lock_host(self._site)

    def exclude(self, host: str, reason: str) -> None:
        """Leave a host out of this run, visibly; Unreachable for the one nothing goes without."""
        if not self.may_exclude(host):
            raise Unreachable("nothing can be done without this host", host=host)
        self._rec.emit("excluded", "", host, reason=reason)

    # --- findings ---------------------------------------------------------------------------------

    def find(self, step: Step) -> list[Finding]:
        """Record the step's findings; the blockers that nobody waived and no step mends."""
        mending = {s.id for s in self._runbook.steps}
        blockers = []
        for finding in step.findings(self._site, self.facts):
            waiver = self._waiver(finding)
            data = {**plain(finding), "waived": waiver}
            self._rec.emit("finding", step.id, finding.host, **data)
            stands = not waiver and finding.fixed_by not in mending
            if finding.severity is Severity.BLOCKER and stands:
                blockers.append(finding)
        return blockers

    def _waiver(self, finding: Finding) -> str:
        today = self._today().isoformat()
        if waiver := self._site.waiver(finding.id, finding.host, today):
            return f"{waiver.reason} (until {waiver.expires})"
        return self._rec.state.waived.get((finding.id, finding.host), "")

    def clear_blockers(self, step: Step) -> None:
        """Go on only when no blocker is left that nobody accepted."""
        while blockers := self.find(step):
            host = next((f.host for f in blockers if f.host), "")
            reply = self._rec.ask(
                Question(
                    "findings",
                    f"{count(len(blockers), 'finding')} must be cleared before "
                    f"{step.title.lower()}",
                    "\n\n".join(_described(f) for f in blockers),
                    (
                        Choice("check", "Look again"),
                        *((Choice("shell", f"Shell on {host}"),) if host else ()),
                        *(() if step.fresh else (WAIVE,)),
                        QUIT,
                    ),
                    step=step.id,
                    host=host,
                    subject=tuple(blockers),
                )
            )
            if reply.key == "quit":
                first = blockers[0]
                raise RunbookError(
                    f"{first.id}: {first.observed}", host=first.host, hint=first.remedy
                )
            if reply.key == "waive":
                for f in blockers:
                    self._rec.emit("waived", step.id, f.host, id=f.id, reason=reply.text)
            else:
                self.refresh(step, {f.host for f in blockers if f.host})


def _described(finding: Finding) -> str:
    lines = [
        f"{finding.host}: {finding.observed}",
        f"  expected: {finding.expected}",
        f"  {finding.remedy}",
    ]
    return "\n".join([*lines, f"  $ {finding.command}"] if finding.command else lines)
