"""Argo Rollouts' analysis templates: which limits make sense, and templates written over into our YAML."""

from firstwatch.argo.limits import limit_faults, validate_limits

__all__ = ["limit_faults", "validate_limits"]
