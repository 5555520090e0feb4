"""Rows, and how they are printed."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Row:
    """A row of the table: the target, what was measured, and what is judged by it."""

    key: str
    title: str
    target: str
    contenders: list = field(default_factory=list)
    # (what, value, limit, "<=" or ">=" ); without a limit it is only told
    ratios: list = field(default_factory=list)
    unit: str = "ms"
    p99: bool = False

    def judge(self, what, value, limit=None, at_least=False):
        """Notes a ratio or a value, with the limit that it is held against."""
        if value is not None:
            self.ratios.append({"what": what, "value": value, "limit": limit, "at_least": at_least})

    def ratio(self, what, ours, other, limit=None, at_least=False):
        """Notes a ratio of medians: ours by another's, or for `at_least` the other's by ours."""
        mine, its = median(ours), median(other)
        if mine and its:
            self.judge(what, its / mine if at_least else mine / its, limit, at_least)

    def against(self, limits, at_least=True):
        """Notes the ratio to each peer, with the limit where it has one."""
        ours = next((c for c in self.contenders if c.kind == "ours"), None)
        for peer in self.contenders:
            if peer.kind == "peer":
                limit = next((limit for name, limit in limits.items() if peer.name.startswith(name)), None)
                self.ratio(f"{peer.name} / ours", ours, peer, limit, at_least)

    def as_json(self):
        """All that was measured."""
        contenders = [
            {"name": c.name, "kind": c.kind, "values": c.times, "median": median(c), "reason": c.reason, "memory": c.memory}
            for c in self.contenders
        ]
        words = {"key": self.key, "title": self.title, "target": self.target, "unit": self.unit}
        return {**words, "contenders": contenders, "ratios": self.ratios, "met": verdict(self)}


def median(contender):
    """The median of a contender, or None."""
    return statistics.median(contender.times) if contender and contender.times else None


def quantile(contender, share):
    """A quantile, or None: of few values, the largest."""
    if not contender or not contender.times:
        return None
    ordered = sorted(contender.times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def amount(value, unit):
    """A value for people."""
    if unit == "ms":
        value *= 1000
        return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms" if value < 10000 else f"{value / 1000:.1f} s"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def verdict(row):
    """met, missed, or not measured."""
    judged = [ratio for ratio in row.ratios if ratio["limit"] is not None]
    if not judged:
        return "not measured"
    return "met" if all(is_met(ratio) for ratio in judged) else "missed"


def is_met(ratio):
    """Whether a value keeps its limit."""
    return ratio["value"] >= ratio["limit"] if ratio["at_least"] else ratio["value"] <= ratio["limit"]


def show(value):
    """A ratio or number without digits that mean nothing."""
    return f"{value:.3f}" if 0.9 <= value < 1.2 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def cell(row, kind):
    """The contenders of a kind, in one cell."""
    parts = []
    for contender in row.contenders:
        if contender.kind == kind and contender.times:
            text = amount(median(contender), row.unit)
            if row.p99 and kind != "peer":
                text += f" (p99 {amount(quantile(contender, 0.99), row.unit)})"
            parts.append(f"{contender.name}: {text}")
    return "<br>".join(parts) or "—"


def table(rows):
    """The table, and below it what could not be measured and why."""
    print("\n| | target | ours | floor | peers | ratios | |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratios = []
        for ratio in row.ratios:
            limit = "" if ratio["limit"] is None else f" ({'≥' if ratio['at_least'] else '≤'} {show(ratio['limit'])})"
            mark = "" if ratio["limit"] is None or is_met(ratio) else " ✗"
            ratios.append(f"{ratio['what']}: {show(ratio['value'])}{limit}{mark}")
        cells = [row.title, row.target, cell(row, "ours"), cell(row, "floor"), cell(row, "peer")]
        cells += ["<br>".join(ratios) or "—", verdict(row)]
        print("| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |")
    missing = {}
    for row in rows:
        for contender in row.contenders:
            if contender.reason:
                missing.setdefault((contender.name, contender.reason), []).append(row.key)
    if missing:
        print("\nNot measured:\n")
        for (name, reason), keys in missing.items():
            print(f"- {name} ({', '.join(keys)}): {reason}")
