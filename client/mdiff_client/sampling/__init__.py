"""The sampler: a pure function of a denoiser, a plan and a seed."""

from mdiff_client.sampling.plan import PLANS, SamplingPlan, named_plan
from mdiff_client.sampling.sampler import sample

__all__ = ["PLANS", "SamplingPlan", "named_plan", "sample"]
