from typing import Final

from typing_extensions import CapsuleType

MOST: Final[int]
SUPPORTED: Final[bool]
capsule: Final[CapsuleType]

def count() -> int: ...
def set_count(count: int) -> None: ...
