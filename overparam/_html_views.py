"""Which facts of a result a notebook shows: runs, reports, estimates and experiments as cards of :mod:`overparam._html`."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._html import badge, card, curve, facts, figure, grid, note, preformatted

if TYPE_CHECKING:
    from overparam.experiments.result import ExperimentResult
    from overparam.objectives.evaluation import Estimate
    from overparam.theory.claims import Claim
    from overparam.theory.report import Report
    from overparam.trajectory import Trajectory

__all__ = ["estimate_card", "experiment_card", "report_card", "trajectory_card"]

_STATUS_TONES = {"completed": "good", "converged": "good", "interrupted": "open", "too_hard": "open", "unstable": "bad", "failed": "bad"}
_VERDICT_TONES = {"verified": "good", "violated": "bad", "undecided": "open", "vacuous": "plain"}
_MARK_TONES = {"yes": "good", "no": "bad", "open": "open", "not tested": "plain"}


def trajectory_card(run: Trajectory, rows: list[tuple[str, str]], message: str) -> str:
    """The facts of a run beside its loss over flow time, or over steps where it has no flow time."""
    timed = run.driver != "em" and run.times[-1] > 0
    x, name = (run.times, "flow time") if timed else (run.steps, "step")
    return card("Trajectory", run.status, _STATUS_TONES[run.status], [facts(row for row in rows if row[0] != "status")], after=message,
                beside=curve(x, run.loss, name, "loss"))


def report_card(report: Report, extra: list[str]) -> str:
    """A verdict, what it is about, why, and every claim with its numbers."""
    claims = [("hypothesis", one) for one in report.hypotheses] + [("conclusion", one) for one in report.conclusions]
    rows = [(kind, badge(one.mark, _MARK_TONES[one.mark]), html.escape(one.words) + _formula(one.latex), html.escape(_compared(one)),
             html.escape(one.tag), html.escape(one.note)) for kind, one in claims]
    source = f"{report.title}, {report.source} [{report.tag}]. {report.statement}"
    about = f"<div style='max-width:60em;margin-top:4px'>{html.escape(source)}</div>"
    why = f"<div style='max-width:60em;margin-top:4px;font-style:italic'>{html.escape(report.reason)}</div>"
    table = grid(("", "holds", "claim", "compared", "from", "note"), rows) if rows else ""
    return card(report.name, report.verdict, _VERDICT_TONES[report.verdict], [about, why, table, note("; ".join(extra)) if extra else ""],
                after=report.given)


def _compared(claim: Claim) -> str:
    """The comparison, with what is not known called so."""
    return claim.comparison.replace(" nan", " what is not known")


def _formula(latex: str) -> str:
    """What notebooks set as mathematics."""
    marked = html.escape(rf"\({latex}\)")
    return f"<div style='opacity:.8'>{marked}</div>" if latex else ""


def estimate_card(found: Estimate) -> str:
    """A value with its error, the gradient's size, and what the errors consist of."""
    sampled = found.replicates is not None
    known = not np.isnan(found.value_error)
    error = f" ± {found.value_error:.2g} ({'standard error' if sampled else 'bound'})" if known else ", no error is known"
    row_error = f", rows ± {_largest(found.grad_error)} at most" if known else ""
    rows = [
        ("value", f"{found.value:.10g}{error}"),
        ("gradient", f"shape {np.shape(found.grad)}, norm {np.linalg.norm(found.grad):.6g}{row_error}"),
        ("rule", f"{found.rule}, {found.nodes} nodes" if found.nodes else found.rule),
    ]
    if sampled:
        rows.append(("replicates", f"{found.replicates}"))
    if found.effective_samples is not None:
        rows.append(("samples", f"{np.min(found.effective_samples):.4g} effective ones at least"))
    if found.bounds is not None:
        parts = ((name, getattr(found.bounds, name)) for name in ("discretisation", "truncation", "rounding"))
        rows += [(name, f"{part.value:.2g} of the value, {_largest(part.grad)} of a row at most") for name, part in parts]
    words, tone = ("reliable", "good") if found.reliable else ("not reliable", "bad")
    if found.reliable and not known:
        words, tone = "error not known", "plain"
    return card("Estimate", words, tone, [facts(rows)])


def _largest(errors: Any) -> str:
    return f"{np.max(errors):.2g}"


def experiment_card(result: ExperimentResult) -> str:
    """What came out, in words and as its picture."""
    status, tone = ("interrupted", "open") if result.interrupted else ("completed", "good")
    return card(result.name, status, tone, [preformatted(result.summary()), figure(result.figure())], after=result.reached)
