"""The client for asyncio: the same operations, to be awaited; memory that is mapped is the same.

    async with smalloc.aio.Client() as client:
        a = await client.array("a", (2, 3), "float32")
        a[0] = [1, 2, 3]  # mapped: it is memory, and needs no await
        await client.put("b", a)

Any number of tasks use one client: their requests are under way together. A Client belongs to the
event loop that it was connected in.
"""

from ._allocation import Allocation
from ._array import Array
from ._client import Client
from ._watch import Watch

__all__ = ["Allocation", "Array", "Client", "Watch"]
