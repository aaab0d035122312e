"""What is deployed: actors of every kind, and policies, which are actors with a name.

Importing this room lets files name every actor in it; see `safetrax.nets.saving.saveable`.
"""

from safetrax.nets.gaussian import SquashedGaussian  # a network that a DeterministicActor may hold
from safetrax.policies.actor import Actor, DeterministicActor, Standardised
from safetrax.policies.conditioned import ConditionedActor
from safetrax.policies.diffusion import DiffusionActor
from safetrax.policies.latent import LatentActor
from safetrax.policies.perturbed import PerturbedActor
from safetrax.policies.policy import Policies, Policy
from safetrax.policies.sequence import SequenceActor

__all__ = [
    "Actor",
    "ConditionedActor",
    "DeterministicActor",
    "DiffusionActor",
    "LatentActor",
    "PerturbedActor",
    "Policies",
    "Policy",
    "SequenceActor",
    "SquashedGaussian",
    "Standardised",
]
