"""`PolicySampler`: any policy as a torch sampler, for a plain training loop and inside the frameworks.

================= ==================================================================================
module            contents
================= ==================================================================================
``sampler``       `PolicySampler`, and the weights of an epoch by id
``observations``  signals observed during an epoch, kept on their device, merged across processes once
``distributed``   the shards of an epoch, and what processes exchange
``resume``        policies as plain values, and the comparison of a saved sampler with this one
``usage``         warnings about a training loop that uses the sampler in a way that cannot be meant
================= ==================================================================================
"""

from datawinnow.dynamic.sampler.sampler import PolicySampler

__all__ = ["PolicySampler"]
