"""A provider's own words, with anything at all in the place of any one of their parts."""

import json
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def spoiled(said: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """A copy of the documented shape; at most one part of it, at whatever depth, is something else."""
    copy: dict[str, Any] = json.loads(json.dumps(said))
    holder: Any = copy
    while isinstance(holder, dict | list) and holder:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if data.draw(st.booleans()):
            holder[key] = data.draw(JSON)
            break
        holder = holder[key]
    return copy
