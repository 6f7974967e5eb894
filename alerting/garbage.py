"""Python's search for objects that hold each other, made rare: our processes make a hundred small ones a person, and
no circles of them. Looked for at Python's own pace, they cost a worker a seventh of its time, and the API a pause in
the middle of a call.
"""

import gc


def look_for_seldom() -> None:
    """From now on. What was imported never goes away and need not be looked at again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
