"""Every rank says something through the store, and hears what all the others said."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


def roll_call(
    store: Store, name: str, rank: int, size: int, said: Any, *, timeout: float
) -> list[Any]:
    """What each rank said, in order; `said` is this rank's, of JSON's types.

    Args:
        store: The same for all ranks; a name is used in it once.
        name: Which call this is.
        rank: This one.
        size: How many there are.
        said: Anything that JSON can hold.
        timeout: Seconds.

    Raises:
        RefusedError: Some ranks said nothing in time, and which; or the store is gone.
    """
    keys = [f"{name}/{other}" for other in range(size)]
    try:
        store.set(keys[rank], json.dumps(said))
        try:
            store.wait(keys, timedelta(seconds=timeout))
        except RuntimeError:
            absent = [other for other in range(size) if not store.check([keys[other]])]
            if absent:
                raise RefusedError(
                    f"{ranks_said(absent)} did not arrive within {timeout:g} s ({name}).",
                    mend="See whether they were started, and what they said last.",
                ) from None
        return [json.loads(store.get(key)) for key in keys]
    except RuntimeError as error:
        raise RefusedError(
            f"The store that ranks meet at is gone ({name}): {cause(error)}.",
            mend="See whether the process that holds it, rank 0 or torchrun's agent, still runs.",
        ) from error


def ranks_said(ranks: list[int]) -> str:
    """Ranks as the subject of a sentence.

    >>> ranks_said([3]), ranks_said([1, 2, 5])
    ('Rank 3', 'Ranks 1, 2 and 5')
    """
    names = [str(rank) for rank in ranks]
    if len(names) == 1:
        return f"Rank {names[0]}"
    return f"Ranks {', '.join(names[:-1])} and {names[-1]}"
