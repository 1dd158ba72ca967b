"""Conditions of canary metrics: Argo Rollouts' language (expr-lang/expr 1.17) and CEL, over one name: `result`."""

from firstwatch.expr.gate import (
    GateCondition,
    GateJudged,
    compile_gate_condition,
    limit_of,
    read_gate_condition,
    with_limit,
)

__all__ = ["GateCondition", "GateJudged", "compile_gate_condition", "limit_of", "read_gate_condition", "with_limit"]
