"""How far a policy can be trusted, from a log alone: an upper bound on the cost of an episode, or a refusal."""

from __future__ import annotations

from safetrax.certification.certificate import Certificate, read_certificates, write_certificates

__all__ = ["Certificate", "read_certificates", "write_certificates"]
