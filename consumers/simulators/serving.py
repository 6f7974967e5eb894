"""Puts a simulator on a socket, in a process of its own or inside a test."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.simulators.phones import Phones


class Limits(BaseModel):
    """What every simulator can be told, at start and by `POST /__sim/config`; unknown words are refused."""

    model_config = ConfigDict(extra="forbid")

    latency: float = 0.0
    """Seconds before any answer."""
    faults: dict[int, float] = Field(default_factory=dict)
    """A provider's code → the share of calls (0 to 1) that get it. 503 is an HTML page, 504 silence,
    505 an accepted text and a dead line."""
    clock_ahead: float = 0.0
    """Seconds by which the simulator's clock is ahead, to let windows close."""


Told = TypeVar("Told", bound=Limits)


def told(now: Told, changes: dict[str, Any]) -> Told:
    """The configuration after some changes. Raises ValueError naming what is wrong."""
    try:
        return type(now).model_validate({**now.model_dump(), **changes})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"the simulator cannot be told this: {wrong}") from error


class Simulator(Protocol):
    """One provider that is not there. Made inside a running event loop."""

    phones: Phones

    def routes(self) -> list[web.RouteDef]:
        """The provider's own methods, and what only this simulator is asked."""
        ...

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        ...

    def reset(self) -> None:
        """Forget all that happened; keep the configuration."""
        ...

    def webhooks(self) -> dict[str, int]:
        """How the posts to our webhook went."""
        ...

    async def close(self) -> None:
        """Stop what runs beside the socket."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """A simulator on its socket."""

    base_url: str
    simulator: Simulator
    runner: web.AppRunner

    async def close(self) -> None:
        """Free the socket. Whoever still waits for an answer gets none."""
        await self.runner.cleanup()
        await self.simulator.close()


async def serve(simulator: Simulator, *, host: str, port: int) -> Served:
    """Listen; port 0 takes a free one."""
    app = web.Application()
    app.add_routes(simulator.routes())
    app.add_routes(simulator.phones.routes())
    app.add_routes(_desk(simulator))
    # A caller who hangs up on a silent simulator takes the handler with them.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    return Served(f"http://{host}:{runner.addresses[0][1]}", simulator, runner)


def _desk(simulator: Simulator) -> list[web.RouteDef]:
    async def reset(_: web.Request) -> web.Response:
        simulator.reset()
        return web.json_response({"reset": True})

    async def configure(request: web.Request) -> web.Response:
        try:
            changes = await request.json() if request.can_read_body else {}
            if not isinstance(changes, dict):
                raise ValueError("the configuration is a JSON object; send one")
            return web.json_response(simulator.configure(changes))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)

    async def webhooks(_: web.Request) -> web.Response:
        return web.json_response(simulator.webhooks())

    return [
        web.post("/__sim/reset", reset),
        web.post("/__sim/config", configure),
        web.get("/__sim/webhooks", webhooks),
    ]
