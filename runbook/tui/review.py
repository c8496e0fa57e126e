"""The plan, to be read before it is approved: every action of every host, with its diff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from runbook.symbols import Mark
from runbook.tui import wording
from runbook.tui.desk import Change, Desk, Review, many, risk_tone
from runbook.tui.look import Part
from runbook.tui.pane import Line, Pane
from runbook.tui.rows import Detail, Rows

LATER = Mark("…", "~", "known later", "dim")


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A stage's title, one action, or one thing that is known later."""

    key: str
    kind: str  # "stage" | "host" | "action" | "later"
    title: str
    data: Mapping[str, Any]


def rows(review: Review, stages: Mapping[str, str]) -> list[PlanRow]:
    """The plan as a tree of lines: stage, host, action; what is known later comes last."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for action in review.actions:
        prefix = str(action["id"]).removeprefix("undo:").partition("/")[0]
        stage = review.stages.get(str(action["id"])) or stages.get(prefix, prefix)
        found.setdefault(stage, {}).setdefault(str(action["host"]), []).append(action)
    result: list[PlanRow] = []
    for stage, hosts in found.items():
        n = sum(len(a) for a in hosts.values())
        about = {"actions": n, "hosts": tuple(hosts)}
        result.append(PlanRow(f"stage/{stage}", "stage", stage, about))
        for host, actions in hosts.items():
            result.append(PlanRow(f"host/{stage}/{host}", "host", host, {"actions": actions}))
            result += [PlanRow(str(a["id"]), "action", str(a["title"]), a) for a in actions]
    if review.later:
        result.append(PlanRow("later", "stage", "Known only later", {"actions": len(review.later)}))
    for n, later in enumerate(review.later):
        result.append(PlanRow(f"later/{n}", "later", str(later["what"]), later))
    return result


class ReviewView(Pane):
    """One step's plan."""

    NAME = "Plan"
    SIDES = ("plan", "change")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "decide", "Approve or decline", id="plan.decide"),
        Binding("n", "next(1)", "Next action", id="plan.next", show=False),
        Binding("N", "next(-1)", "Previous action", id="plan.previous", show=False),
    ]

    def __init__(self, desk: Desk, review: Review) -> None:
        super().__init__(desk)
        self.review = review

    def body(self) -> ComposeResult:
        yield Line("counts")
        with Horizontal(id="review"):
            yield Rows[PlanRow](
                self._draw_row,
                lambda r: r.key,
                id="plan",
                arrow=self.look.arrow,
                empty="Nothing to do.",
            )
            yield Detail(id="change")

    def ready(self) -> None:
        self.query_one("#plan").border_title = "Plan"
        self.query_one("#change").border_title = "What it does"
        self.show_plan(self.review)

    def heading(self) -> list[Part]:
        return [("Plan: ", "dim"), (self.desk.state.step(self.review.step).title, "strong")]

    @property
    def asked(self) -> bool:
        """Whether it is this plan that waits for an answer."""
        question = self.desk.question
        return (
            question is not None
            and question.question.kind in ("approve", "changed")
            and question.question.step == self.review.step
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "decide":
            return self.asked
        return super().check_action(action, parameters)

    def show_plan(self, review: Review) -> None:
        """Show this plan instead; it is another one when the host changed meanwhile."""
        self.review = review
        step = self.desk.mission.runbook.step(review.step)
        lines = rows(review, {s.id: s.title for s in step.stages})
        plan = self.query_one("#plan", Rows)
        plan.fill(lines)
        first = next((n for n, row in enumerate(lines) if row.kind == "action"), 0)
        plan.go(first)
        self._draw_change(lines[first] if lines else None)
        self.query_one("#counts", Line).say(self.look, review.counts())
        self.refresh_bindings()

    def draw(self, change: Change) -> None:
        if change:
            self.query_one("#counts", Line).say(self.look, self.review.counts())

    def _draw_row(self, row: PlanRow, width: int) -> Text:
        look = self.look
        if row.kind == "stage":
            return look.text((row.title, "head"), (f"  {row.data['actions']}", "dim"))
        if row.kind == "host":
            return look.text("  ", (row.title, "strong"))
        if row.kind == "later":
            return look.text("  ", look.sign(LATER), " ", look.cell(row.title, width - 4))
        undo = wording.undo_words(row.data["undo"])
        risk = str(row.data["risk"])
        tags: list[Part] = [("new", "warn")] if row.key in self.review.new else []
        tags += [(risk, risk_tone(risk))] if risk not in ("change", "read") else []
        if row.data.get("outage"):
            tags.append((f"outage {round(row.data['outage'])} s", "warn"))
        if row.data["undo"]["kind"] == "Irreversible":
            tags.append(undo)
        room = width - 4 - sum(len(t[0]) + 1 for t in tags)
        spaced: list[Part] = [part for tag in tags for part in (" ", tag)]
        return look.text("    ", look.cell(row.title, room), *spaced)

    def _draw_change(self, row: PlanRow | None) -> None:
        parts: list[Part] = []
        if row is None:
            parts = [("Nothing to do.", "dim")]
        elif row.kind == "action":
            parts = wording.action(row.data)
        elif row.kind == "later":
            after = f"Known after {row.data['after']}; you are asked again when it is.\n"
            where = f"{row.data['host']}: " if row.data.get("host") else ""
            parts = [(f"{where}{row.title}\n\n", "strong"), after]
        elif row.kind == "host":
            titles = "".join(f"  {a['title']}\n" for a in row.data["actions"])
            n = len(row.data["actions"])
            parts = [
                (f"{row.title}\n\n", "strong"),
                f"{many(n, 'action')}, in this order\n{titles}",
            ]
        else:
            hosts = row.data.get("hosts", ())
            names = "".join(f"  {host}\n" for host in hosts[:200])
            more = f"  and {len(hosts) - 200} more\n" if len(hosts) > 200 else ""
            parts = [(f"{row.title}\n\n", "strong"), f"{many(len(hosts), 'host')}\n{names}{more}"]
            if not hosts:
                parts = [
                    (f"{row.title}\n\n", "strong"),
                    "What cannot be known before it is done.\n",
                ]
        self.query_one("#change", Detail).say(self.look.block(*parts))

    @on(Rows.Moved, "#plan")
    def plan_moved(self, message: Rows.Moved) -> None:
        self._draw_change(message.item)

    @on(Rows.Picked, "#plan")
    def plan_picked(self) -> None:
        self.show_side(1)

    def action_next(self, step: int) -> None:
        """The next action, past titles of stages and hosts."""
        plan = self.query_one("#plan", Rows)
        items = list(plan.items)
        here = items.index(plan.cursor) if items else 0
        order = range(here + 1, len(items)) if step > 0 else range(here - 1, -1, -1)
        plan.go(next((n for n in order if items[n].kind == "action"), here))

    def action_decide(self) -> None:
        self.face.action_decide()
