"""Gradient flow from balanced factors: what is conserved, what only falls, what only rises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from overparam import factors, init
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import MatrixFactorization
from overparam.theory.luo2025 import common
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register

__all__ = ["Conservation", "Theorem4", "Theorem5", "rise", "rises"]


def is_flow(setting: Setting) -> Hypothesis:
    """The run is a gradient flow."""
    words, latex = "the run is a gradient flow", r"\dot W_j=-\nabla_{W_j}L"
    if setting.run is None:
        return Hypothesis(words, latex, note="no run was given")
    return Hypothesis(words, latex, fact=common.flow(setting), note=f"the driver is {setting.run.driver}")


def example(seed: int = 0, *, complex: bool = False, target: Any = None, balance: float = 0.0, depth: int = 4, t_end: float = 60.0,
            scale: float = 0.4) -> dict[str, Any]:
    """A balanced start followed by gradient flow, in arguments of ``check``; d = 3."""
    objective = MatrixFactorization(np.eye(3) if target is None else target, depth=depth, balance=balance)
    return {"subject": gradient_flow(objective, init.balanced_gaussian(depth, 3, scale, seed, complex), t_end=t_end, rtol=1e-9)}


def descent_example() -> dict[str, Any]:
    """Gradient descent from a balanced start."""
    start = init.balanced_gaussian(4, 3, 0.4, 0)
    return {"subject": gradient_descent(MatrixFactorization(np.eye(3)), start, step_size=0.03, steps=100)}


@register
class Conservation(Theorem):
    r""":math:`\frac d{dt}\Delta_{j,j+1}=0` under the flow of the loss without the balancing term, whatever the start, N and the target.

    :math:`W_j\nabla_{W_j}^H=\nabla_{W_{j+1}}^HW_{j+1}`. So balanced factors stay balanced; with the term they do so too, since its
    gradient vanishes there.
    """

    name = "luo2025.law_conservation"
    title = "Conservation of the balance"
    source = common.OWN
    statement = "Without the balancing term every difference W_j W_j^H - W_(j+1)^H W_(j+1) is conserved by gradient flow."
    latex = r"a=0\ \Rightarrow\ \Delta_{j,j+1}(t)=\Delta_{j,j+1}(0)"
    tag = "standard"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        return [common.factorization(setting.objective), is_flow(setting),
                Hypothesis("there is no balancing term", r"a=0", fact=setting.objective.balance == 0, tag="standard",
                           note=f"a = {setting.objective.balance:g}")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        moved = [self.differences(common.factors_of(state)) for state in setting.run.states]
        worst = max(float(np.linalg.norm(one - moved[0], axis=(1, 2)).max()) for one in moved)
        size = common.scale_of(common.factors_of(setting.run.final_state)) ** 2
        return [Conclusion("the differences stay where they are", r"\Delta_{j,j+1}(t)=\Delta_{j,j+1}(0)", worst, "==", 0.0, tag="standard",
                           error=common.drift(setting), scale=size, note="the error: one tolerance for each step of the integrator")]

    @staticmethod
    def differences(params: np.ndarray) -> np.ndarray:
        """(N - 1, d, d) of them."""
        before, after = params[:-1], params[1:]
        found: np.ndarray = before @ np.swapaxes(before.conj(), 1, 2) - np.swapaxes(after.conj(), 1, 2) @ after
        return found

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        ends = [factors.balance_errors(common.factors_of(setting.run.states[place])).tolist() for place in (0, -1)]
        return {"norms of the differences at the start": ends[0], "at the end": ends[1]}

    def examples(self) -> dict[str, Example]:
        def unbalanced() -> dict[str, Any]:
            start = init.small_gaussian(3, 2, 0.6, 0, complex=True)
            return {"subject": gradient_flow(MatrixFactorization(np.diag([2.0, 1.0]), depth=3, balance=0.0), start, t_end=40.0, rtol=1e-9)}

        return {"balanced": Example("verified", example, "N=4, d=3, real"),
                "unbalanced": Example("verified", unbalanced, "N=3, d=2, complex, target diag(2, 1)"),
                "balancing": Example("vacuous", lambda: example(balance=1.0), "a=1: conserved all the same, since it is 0")}


@register
class Theorem4(Theorem):
    r"""Theorem 4: :math:`\|\Sigma^{1/2}(U-V)\Sigma_w\|_F^2` does not rise, :math:`W=U\Sigma_w^NV^H`.

    For any :math:`N\ge2`, from balanced factors whose singular values are distinct and not 0. For a target that is not diagonal U and V
    are taken in its own frame, where it is.
    """

    name = "luo2025.theorem_4"
    title = "Theorem 4 (skew error)"
    source = common.PAPER
    statement = "Under gradient flow from balanced factors the skew error |Sigma^(1/2) (U - V) Sigma_w|_F^2 does not rise."
    latex = r"\tfrac d{dt}\|\Sigma^{1/2}(U-V)\Sigma_w\|_F^2\le0"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        sizes = factors.frames(common.factors_of(setting.state))[1]
        gap = float(min(sizes[-1], *(-np.diff(sizes)))) if len(sizes) > 1 else float(sizes[-1])
        return [common.factorization(setting.objective), is_flow(setting), common.balanced(setting),
                Hypothesis("the start's singular values are distinct and not 0", r"\sigma_k(\Sigma_w)\ne\sigma_l(\Sigma_w),\ \ne0",
                           gap, ">", 0.0, error=16 * common.EPS * float(sizes[0]))]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        errors, largest = self._errors(setting), float(common.sizes_of_target(setting.objective)[0])
        words, latex = "the skew error does not rise from record to record", self.latex
        if len(errors) < 2:
            return [Conclusion(words, latex, note="one record: a longer run would decide")]
        place = int(np.argmax(np.diff(errors)))
        size = 4 * largest * float((factors.frames(common.factors_of(setting.state))[1] ** 2).sum())
        return [Conclusion(words, latex, float(errors[place + 1]), "<=", float(errors[place]), attained=True, scale=size,
                           error=4 * largest * common.drift(setting),
                           note=f"at t = {setting.run.times[place]:.4g} to {setting.run.times[place + 1]:.4g}; the error: one tolerance "
                                "for each step of the integrator")]

    @staticmethod
    def _errors(setting: Setting) -> np.ndarray:
        target = np.diag(common.sizes_of_target(setting.objective))
        return np.array([factors.skew_error(common.in_frame(setting, state), target) ** 2 for state in setting.run.states])

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        errors = self._errors(setting)
        return {"skew error, squared, at the start": float(errors[0]), "at the end": float(errors[-1])}

    def examples(self) -> dict[str, Example]:
        other = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.2, 0.0, 0.5]])
        return {"real": Example("verified", example, "N=4, d=3, identity, det W > 0"),
                "negative determinant": Example("verified", lambda: example(2), "the product's smallest singular value goes to 0"),
                "complex": Example("verified", lambda: example(3, complex=True), "N=4, d=3, identity"),
                "another target": Example("verified", lambda: example(1, target=other, depth=3), "N=3, a target that is not Hermitian"),
                "gradient descent": Example("vacuous", descent_example, "steps of 0.03")}


def rises(setting: Setting, state: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r""":math:`\frac d{dt}x_k^2` by differences along the flow, its error, and :math:`x_k^2`; :math:`2x_k=\sigma_k((U+V)\Sigma_w)`."""
    grad = setting.objective.grad(common.factors_of(state))
    return rise(lambda params: (factors.hermitian_values(common.to_frame(params, setting.objective.target)) / 2) ** 2,
                common.factors_of(state), -grad)


def rise(function: Callable[[np.ndarray], np.ndarray], params: np.ndarray,
         velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivative of a quadratic function of the factors along a velocity, its error, and the function's value."""
    speed, size = float(np.linalg.norm(velocity)), common.scale_of(params)
    value = function(params)
    if speed == 0:
        return np.zeros_like(value), np.zeros_like(value), value
    step = 1e-3 * float(np.linalg.svd(params, compute_uv=False).min() + 1e-3 * size)
    along = velocity / speed

    def difference(h: float) -> np.ndarray:
        near, far = function(params + h * along) - function(params - h * along), function(params + 2 * h * along) - \
            function(params - 2 * h * along)
        found: np.ndarray = (8 * near - far) / (12 * h)
        return found

    fine, coarse = difference(step / 2), difference(step)
    # the halved step is 16 times as accurate: the difference of the two is more than its error
    return fine * speed, (np.abs(fine - coarse) + 64 * common.EPS * size**2 / step) * speed, value


@register
class Theorem5(Theorem):
    r"""Theorem 5: the Hermitian part rises, at a bounded rate. With N = 4, :math:`\Sigma=\sigma_1I` and
    :math:`x_k=\frac12\sigma_k((U+V)\Sigma_w)`,

    .. math:: \frac d{dt}x_k^2\le\sigma_1\big(2\|\Sigma_w\|_{op}^2+\|(U-V)\Sigma_w|_{t=0}\|_F^2\big)x_k^2,

    and :math:`x_k` is monotone before local convergence, which is read as: while :math:`\|W\|_{op}\le\sigma_1` [reconstructed; beyond, it
    was seen to fall]. The formula of the lower bound on the rate is lost [unknown]; `measured` shows the smallest rate that was seen.
    """

    name = "luo2025.theorem_5"
    title = "Theorem 5 (Hermitian part)"
    source = common.PAPER
    statement = ("Under gradient flow of four balanced factors to a multiple of the identity the singular values of the Hermitian part "
                 "rise before local convergence, at a rate bounded from above.")
    latex = r"\tfrac d{dt}x_k^2\le\sigma_1(2\|\Sigma_w\|_{op}^2+\|(U-V)\Sigma_w|_0\|_F^2)x_k^2,\quad x_k=\tfrac12\sigma_k((U+V)\Sigma_w)"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        return [common.factorization(setting.objective), common.depth(setting.objective), common.identical(setting.objective),
                is_flow(setting), common.balanced(setting)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        return [self._bounded(setting), self._monotone(setting)]

    def _bounded(self, setting: Setting) -> Conclusion:
        """The rate's upper bound, at the record and k with the least room."""
        target, claims = float(common.sizes_of_target(setting.objective)[0]), []
        skew = float(factors.skew_error(common.in_frame(setting, setting.state))) ** 2
        for place, state in enumerate(setting.run.states):
            top = float(factors.frames(common.factors_of(state))[1][0])
            rate = target * (2 * top**2 + skew)
            for k, (left, error, value) in enumerate(zip(*rises(setting, state))):
                claims.append(Conclusion("x_k^2 rises no faster than the bound", self.latex, float(left), "<=", float(rate * value),
                                         error=float(error), attained=True, scale=rate * top**2,
                                         note=f"k = {k + 1}, at t = {setting.run.times[place]:.4g}"))
        return min(claims, key=lambda one: (one.right - one.left) / one.scale if one.scale else 0.0)

    @staticmethod
    def _monotone(setting: Setting) -> Conclusion:
        words, latex = "every x_k rises from record to record while |W| is at most sigma_1", r"\|W\|_{op}\le\sigma_1\Rightarrow\dot x_k\ge0"
        target = float(common.sizes_of_target(setting.objective)[0])
        moved = [common.in_frame(setting, state) for state in setting.run.states]
        inside = np.array([factors.product_singular_values(one)[0] for one in moved]) <= target
        values = np.array([(factors.hermitian_values(one) / 2) ** 2 for one in moved])
        places = np.flatnonzero(inside[1:] & inside[:-1])
        if not places.size:
            return Conclusion(words, latex, tag="reconstructed", note="at no two records in turn |W| is at most sigma_1: an earlier start "
                                                                      "would decide")
        change = np.diff(values, axis=0)[places]
        row, k = np.unravel_index(int(np.argmin(change)), change.shape)
        place = places[row]
        return Conclusion(words, latex, float(values[place + 1, k]), ">=", float(values[place, k]), tag="reconstructed", attained=True,
                          error=common.drift(setting), scale=float(np.sqrt(target)),
                          note=f"k = {k + 1}, t = {setting.run.times[place]:.4g} to {setting.run.times[place + 1]:.4g}; "
                               f"{places.size} of {len(inside) - 1} intervals")

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        target = float(common.sizes_of_target(setting.objective)[0])
        rates, start = [], common.in_frame(setting, setting.state)
        for state in setting.run.states:
            top = float(factors.frames(common.factors_of(state))[1][0])
            if top**setting.objective.depth > target:
                break
            left, error, value = rises(setting, state)
            seen = (left > error) & (value > 0)
            if seen.all():
                rates.append(float((left / value).min() / (target * top**2)))
        final = common.in_frame(setting, setting.run.final_state)
        found: dict[str, Any] = {"squared skew error at the start": float(factors.skew_error(start)) ** 2,
                                 "x_k at the start": (factors.hermitian_values(start) / 2).tolist(),
                                 "x_k at the end": (factors.hermitian_values(final) / 2).tolist()}
        if rates:
            found["smallest rate of x_k^2 over sigma_1 |Sigma_w|^2 x_k^2 while |W| is at most sigma_1 (the formula is lost)"] = min(rates)
        return found

    def examples(self) -> dict[str, Example]:
        return {"real": Example("verified", example, "d=3, identity, det W > 0"),
                "negative determinant": Example("verified", lambda: example(2), "the last x_k is 0 all along"),
                "complex": Example("verified", lambda: example(3, complex=True), "d=3, identity"),
                "another target": Example("vacuous", lambda: example(target=np.diag([2.0, 1.0, 0.5])), "diag(2, 1, 1/2)"),
                "gradient descent": Example("vacuous", descent_example, "steps of 0.03")}
