"""Few shapes in place of many: each new one makes Gaudi's compiler build the graph again.

```python
from ds_gaudi.bucketing import Buckets

buckets = Buckets.up_to(2048)                      # 128, 256, 384, 512, 640, 896, ...
tokens = buckets.pad(tokens, dim=1, value=pad_id)  # now of one of these lengths
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ds_core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor

ENGINE = 128
"""Sides of matrices that fill the matrix engine are multiples of it."""


class Buckets(NamedTuple):
    """The lengths that batches are padded to, ascending."""

    sizes: tuple[int, ...]

    @classmethod
    def up_to(cls, longest: int, *, step: int = ENGINE, growth: float = 1.25) -> Buckets:
        """Lengths in multiples of `step`, each about `growth` times the last one.

        Padding wastes at most the larger of `step` and a share of `growth` - 1; the number of
        lengths grows with the logarithm of the longest.

        Raises:
            ConfigError: A value is not positive, or `growth` is not above 1.
        """
        if longest < 1 or step < 1 or growth <= 1:
            raise ConfigError(
                f"There are no buckets up to {longest} in steps of {step} with growth {growth}.",
                mend="Give positive lengths, and a growth above 1.",
            )
        sizes = [step]
        while sizes[-1] < longest:
            following = int(sizes[-1] * growth) // step * step
            sizes.append(max(following, sizes[-1] + step))
        return cls(tuple(sizes))

    def fit(self, length: int) -> int:
        """The least of the lengths that holds `length`.

        Raises:
            RefusedError: None does.
        """
        found = next((size for size in self.sizes if size >= length), None)
        if found is None:
            raise RefusedError(
                f"A batch of length {length} is longer than the longest bucket, {self.sizes[-1]}.",
                mend=f"Cut it, or make buckets up to {length}.",
            )
        return found

    def pad(self, tensor: Tensor, dim: int = -1, value: float = 0) -> Tensor:
        """`tensor`, lengthened at the end of `dim` with `value` to one of the lengths.

        Raises:
            RefusedError: It is longer than all of them.
        """
        missing = self.fit(tensor.shape[dim]) - tensor.shape[dim]
        if not missing:
            return tensor
        from torch.nn.functional import pad

        after = tensor.dim() - 1 - dim % tensor.dim()
        return pad(tensor, (0, 0) * after + (0, missing), value=value)
