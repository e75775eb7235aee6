"""The `[solver.quadrature]` and `[solver.penalty_quadrature]` tables: where integrals are taken."""

from typing import Self

from pydantic import model_validator

from rnode_dyn.recipe.names import QuadratureName
from rnode_dyn.recipe.tables import Count, Table, broken_rule


class QuadratureRecipe(Table):
    """Where the log-determinant or the penalties are integrated in training.

    Example:
        >>> QuadratureRecipe(rule="gauss", nodes=4).nodes
        4
    """

    rule: QuadratureName = "stages"
    """At the solver's stages, or at nodes of Gauss and Legendre, or at random ones."""

    nodes: Count | None = None
    """Nodes a block; only with `rule = "gauss"` or `"stratified"`, and then needed."""

    @model_validator(mode="after")
    def _nodes_belong_to_a_rule(self) -> Self:
        if self.rule == "stages" and self.nodes is not None:
            reason = 'the stages are the solver\'s own: drop it, or say rule = "gauss"'
            raise broken_rule("nodes", reason, self.nodes)
        if self.rule != "stages" and self.nodes is None:
            raise broken_rule("nodes", f"{self.rule} needs their number: add nodes = 4")
        return self
