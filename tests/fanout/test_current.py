"""Which hub the running code means."""

from __future__ import annotations

import asyncio
import contextvars

from asgiws.fanout import current
from asgiws.fanout.current import Place
from asgiws.fanout.history import Wanted


async def test_code_means_the_hub_of_its_server() -> None:
    loop = asyncio.get_running_loop()
    own = current.hub()
    one, two = Place(Wanted()), Place(Wanted())
    contexts = [contextvars.copy_context() for _ in range(3)]
    contexts[0].run(one.settle, loop)
    # A thread without a context means the only server there is.
    assert contexts[2].run(current.hub) is one.hub()
    contexts[1].run(two.settle, loop)
    assert contexts[0].run(current.hub) is one.hub()
    assert contexts[1].run(current.hub) is two.hub()
    assert contexts[2].run(current.hub) is own
    one.leave()
    two.leave()
    assert contexts[0].run(current.hub) is own


async def test_no_hub_is_made_before_it_is_needed() -> None:
    place = Place(Wanted())
    assert place.made is None
    assert place.hub() is place.made
