"""What is deployed: actors of every kind, and policies, which are actors with a name.

Importing this room lets files name every actor in it; see `safetrax.nets.saving.saveable`.
"""

from safetrax.nets.boundary_transformer import (
    BoundaryTransformer as BoundaryTransformer,  # networks that a SequenceActor may hold
)
from safetrax.nets.decision_transformer import DecisionTransformer as DecisionTransformer
from safetrax.nets.gaussian import (
    SquashedGaussian as SquashedGaussian,  # a network that a DeterministicActor may hold
)
from safetrax.policies.actor import Actor as Actor
from safetrax.policies.actor import DeterministicActor as DeterministicActor
from safetrax.policies.actor import Standardised as Standardised
from safetrax.policies.conditioned import BudgetActor as BudgetActor
from safetrax.policies.conditioned import ConditionedActor as ConditionedActor
from safetrax.policies.diffusion import DiffusionActor as DiffusionActor
from safetrax.policies.latent import LatentActor as LatentActor
from safetrax.policies.perturbed import PerturbedActor as PerturbedActor
from safetrax.policies.policy import Policies as Policies
from safetrax.policies.policy import Policy as Policy
from safetrax.policies.sequence import BoundaryActor as BoundaryActor
from safetrax.policies.sequence import SequenceActor as SequenceActor
