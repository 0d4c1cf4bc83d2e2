"""The half that cannot converge: real balanced factors whose product has the other sign of determinant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import factors, init
from overparam.drivers import gradient_descent
from overparam.objectives import MatrixFactorization
from overparam.theory.luo2025 import balanced_flow, common
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register

__all__ = ["OppositeDeterminant", "least_loss"]


def least_loss(target: np.ndarray) -> float:
    r"""Return :math:`\frac12\sigma_{\min}(\Sigma)^2`, below which no real product of the other sign of determinant has its loss.

    The segment from :math:`\Sigma` to such a W meets a singular matrix, and the nearest one is :math:`\sigma_{\min}(\Sigma)` away.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.luo2025.determinant import least_loss
    >>> round(float(least_loss(np.diag([3.0, 2.0]))), 12)
    2.0
    """
    found: float = 0.5 * np.linalg.svd(target, compute_uv=False)[-1] ** 2
    return found


@register
class OppositeDeterminant(Theorem):
    r"""Where :math:`\det W\det\Sigma<0` at a real balanced start, the loss never falls below :math:`\frac12\sigma_{\min}(\Sigma)^2`.

    Balanced factors stay balanced under the flow, so that every singular value of W obeys an equation of its own,
    :math:`\dot s=N(u^H\Sigma v-s)\,s^{2-2/N}`, and cannot reach 0: the sign stays. Gradient descent follows it where its steps are small;
    then that the sign is kept is supposed of the records. Between different signs lies a singular matrix, hence the bound.

    It is the half of Theorems 1 to 3 that is absolute. Factors that are not balanced can turn their sign: of real Gaussian starts at
    moderate scale many with a negative determinant do converge.
    """

    name = "luo2025.law_determinant"
    title = "The other sign of the determinant"
    source = common.OWN
    statement = ("From real balanced factors whose product has the other sign of determinant than the target the loss stays at or above "
                 "half the square of the target's least singular value.")
    latex = r"\det W(0)\,\det\Sigma<0\ \Rightarrow\ L(t)\ge\tfrac12\sigma_{\min}(\Sigma)^2"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        found = [common.factorization(setting.objective), common.real(setting), common.balanced(setting)]
        if not found[1].fact:
            return found
        sign = self._sign(setting, setting.state)
        return [*found, Hypothesis("the determinants of the product and of the target differ in sign", r"\det W(0)\,\det\Sigma<0",
                                   fact=sign < 0, tag="derived", note=f"the sign of det W det Sigma is {sign:+g}"), self._motion(setting)]

    @staticmethod
    def _sign(setting: Setting, state: Any) -> float:
        return float(factors.determinant_sign(common.factors_of(state)) * np.linalg.slogdet(setting.objective.target)[0])

    def _motion(self, setting: Setting) -> Hypothesis:
        words, latex = "the run is a gradient flow, or gradient descent that keeps the sign at its records", r"\dot W_j=-\nabla_{W_j}L"
        if setting.run is None:
            return Hypothesis(words, latex, tag="derived", note="no run was given")
        if common.flow(setting):
            return Hypothesis(words, latex, fact=True, tag="derived")
        kept = all(self._sign(setting, state) <= 0 for state in setting.run.states)
        return Hypothesis(words, latex, fact=setting.run.driver == "gradient_descent" and kept, tag="derived",
                          note=f"the driver is {setting.run.driver}; the sign {'is kept' if kept else 'has turned'}")

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run = setting.run
        place = int(np.argmin(run.loss))
        return [Conclusion("the least loss of all records is at or above the bound", r"L\ge\tfrac12\sigma_{\min}(\Sigma)^2",
                           float(run.loss[place]), ">=", float(least_loss(setting.objective.target)), tag="derived", attained=True,
                           error=float(run.loss_error[place]) + 16 * common.EPS * float(run.loss[place]),
                           note=f"at t = {run.times[place]:.4g}")]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        final = common.factors_of(setting.run.final_state)
        return {"least singular value of the Hermitian part at the end":
                float(factors.hermitian_values(common.to_frame(final, setting.objective.target))[-1]),
                "last loss": float(setting.run.loss[-1])}

    def examples(self) -> dict[str, Example]:
        def descent() -> dict[str, Any]:
            return {"subject": gradient_descent(MatrixFactorization(np.eye(3)), init.balanced_gaussian(4, 3, 0.4, 2), step_size=0.03,
                                                steps=20_000)}

        def other() -> dict[str, Any]:
            return balanced_flow.example(0, target=np.diag([2.0, 1.0, -0.5]))

        return {"flow": Example("verified", lambda: balanced_flow.example(2), "d=3, identity, det W < 0"),
                "gradient descent": Example("verified", descent, "the same start, eta=0.03, a=1, 20 000 steps"),
                "a target of negative determinant": Example("verified", other, "diag(2, 1, -1/2), det W > 0"),
                "same sign": Example("vacuous", balanced_flow.example, "d=3, identity, det W > 0"),
                "complex": Example("vacuous", lambda: balanced_flow.example(3, complex=True), "no sign to keep")}
