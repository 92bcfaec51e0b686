"""The web page and what it calls, as an ASGI application."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cachesim.dashboard.forms import forms
from cachesim.dashboard.guard import Guard
from cachesim.dashboard.runs import Runs, shipped
from cachesim.dashboard.watch import Watch
from cachesim.errors import CachesimError
from cachesim.faults.catalogue import CATALOGUE

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from cachesim.simulator.simulator import Simulator

ASSETS = "cachesim.dashboard"
REPORT = "cachesim.scenarios.report"
_FILES = {
    "index.html": (ASSETS, "assets/index.html"),
    "dashboard.css": (ASSETS, "assets/dashboard.css"),
    **{
        f"{name}.js": (ASSETS, f"assets/{name}.js")
        for name in ("main", "map", "layout", "panel", "charts", "lists", "alarms", "runs", "dom")
    },
    "palette.css": (REPORT, "assets/palette.css"),
    "drawing.js": (REPORT, "assets/drawing.js"),
    "uPlot.js": (REPORT, "vendor/uPlot.iife.min.js"),
    "uPlot.css": (REPORT, "vendor/uPlot.min.css"),
}
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'; sandbox allow-scripts"
)
"""What a report may do. All is in it, and in a sandbox it is another site: it can call nothing."""
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEARTBEAT = 15.0  # seconds within which the end of a page is noticed
_LARGEST = 65536  # bytes of a request


class Dashboard:
    """The page of one topology.

    Args:
        sim: a topology that runs.
    """

    def __init__(self, sim: "Simulator") -> None:
        self._sim = sim
        self._runs = Runs(sim.name)
        self._watch = Watch(sim, lambda: self._runs.state)

    def application(self, token: str, port: int) -> "ASGIApp":
        """Return the application.

        Args:
            token: the secret of the URL.
            port: the port that it will be reached by.
        """
        routes = [
            Route("/", self._file),
            Route("/assets/{name}", self._file),
            Route("/api/forms", self._forms),
            Route("/api/stream", self._stream),
            Route("/api/faults", self._apply, methods=["POST"]),
            Route("/api/faults/{id}", self._heal, methods=["DELETE"]),
            Route("/api/faults", self._heal, methods=["DELETE"]),
            Route("/api/nodes/{name}/{verb}", self._node, methods=["POST"]),
            Route("/api/failover", self._failover, methods=["POST"]),
            Route("/api/reset", self._reset, methods=["POST"]),
            Route("/api/scenarios", self._scenarios),
            Route("/api/runs", self._run, methods=["POST"]),
            Route("/api/runs", self._end_run, methods=["DELETE"]),
            Route("/report", self._report),
        ]
        return Guard(Starlette(routes=routes), token, port)

    def end(self, why: str) -> None:
        """End the run that goes on, tell all pages that there is nothing more, and let them go."""
        self._runs.end()
        self._watch.end(why)

    # --- looking ------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in _FILES:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        package, path = _FILES[name]
        text = files(package).joinpath(path).read_text(encoding="utf-8")
        return Response(text, media_type=_TYPES[path.rpartition(".")[2]])

    async def _forms(self, _request: Request) -> Response:
        return JSONResponse(forms(CATALOGUE, self._sim.topology))

    async def _stream(self, _request: Request) -> Response:
        return StreamingResponse(self._messages(), media_type="text/event-stream")

    async def _messages(self) -> AsyncIterator[str]:
        try:
            async with self._watch.looking() as queue:
                kind = ""
                while kind not in ("ended", "late"):
                    try:
                        kind, data = await asyncio.wait_for(queue.get(), _HEARTBEAT)
                    except TimeoutError:
                        yield ": nothing new\n\n"
                    else:
                        yield _event(kind, data)
        except CachesimError as error:
            yield _event("ended", str(error))

    # --- breaking and restoring ---------------------------------------------------------------

    async def _apply(self, request: Request) -> Response:
        def apply(body: dict[str, Any]) -> Any:
            times = {key: body.get(key) for key in ("heal_after", "over", "flap")}
            fault = self._sim.faults.apply(CATALOGUE.read(body.get("fault")), **times)
            return {"id": fault.id, "kind": fault.kind, "target": fault.target}

        return await _answer(request, apply)

    async def _heal(self, request: Request) -> Response:
        wanted = request.path_params.get("id")

        def heal(_body: dict[str, Any]) -> Any:
            if wanted is None:
                self._sim.heal()
                return None
            found = [it for it in self._sim.faults.active if it.id == wanted]
            for fault in found:
                fault.heal()
            return {"healed": len(found)}

        return await _answer(request, heal)

    async def _node(self, request: Request) -> Response:
        node, verb = request.path_params["name"], request.path_params["verb"]
        verbs = {"restart": lambda it: it.restart(), "resume": lambda it: it.resume()}

        def act(_body: dict[str, Any]) -> None:
            if verb not in verbs:
                raise ValueError(f"there are {', '.join(verbs)}, not {verb!r}")
            verbs[verb](self._sim.nodes[node])

        return await _answer(request, act)

    async def _failover(self, request: Request) -> Response:
        return await _answer(request, lambda body: self._sim.control_plane.failover(body.get("to")))

    async def _reset(self, request: Request) -> Response:
        return await _answer(request, lambda _body: self._sim.reset())

    # --- scenarios ----------------------------------------------------------------------------

    async def _scenarios(self, request: Request) -> Response:
        return await _answer(request, lambda _body: shipped())

    async def _run(self, request: Request) -> Response:
        return await _answer(request, lambda body: self._runs.start(str(body.get("scenario"))))

    async def _end_run(self, request: Request) -> Response:
        return await _answer(request, lambda _body: self._runs.end())

    async def _report(self, _request: Request) -> Response:
        path = self._runs.report
        if path is None:
            return Response("There is no report yet.\n", 404, media_type="text/plain")
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(path.read_bytes(), media_type="text/html", headers=headers)


def _event(kind: str, data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


async def _answer(request: Request, act: Callable[[dict[str, Any]], Any]) -> Response:
    """Do what a request asks for; a mistake in it is an answer with `error`."""
    try:
        body = await _body(request)
        return JSONResponse(await asyncio.to_thread(act, body))
    except (CachesimError, ValueError, KeyError) as error:
        return JSONResponse({"error": str(error)}, 400)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request has; empty if it has none.

    Raises:
        ValueError: it is something else, or too large.
    """
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > _LARGEST:
            raise ValueError("the request is too large")
    body = json.loads(found or b"{}")
    if not isinstance(body, dict):
        raise ValueError("the request must be an object")
    return body
