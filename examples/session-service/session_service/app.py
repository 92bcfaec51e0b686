"""The service's HTTP interface."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from flask import Flask, Response, jsonify, request

from session_service import api_cache, sessions
from session_service.sessions import Session, SessionsUnavailable

COOKIE = "session_id"
RETRY_AFTER = 5  # seconds


class Origin(Protocol):
    """The APIs whose answers are cached."""

    def products(self, category: str) -> list[str]:
        """Return the products of a category."""
        ...

    def profile(self, user_id: str) -> dict[str, Any]:
        """Return a user's profile."""
        ...


def create_app(origin: Origin, environ: Mapping[str, str] = os.environ) -> Flask:
    """Make the service.

    Args:
        environ: `REDIS_NODES` and `MEMCACHED_NODES` (`host:port,host:port`), `REDIS_PASSWORD`;
            optional are `SESSION_SECONDS`, `SESSION_PATIENCE_SECONDS` and `CACHE_DEAD_SECONDS`. The
            trusted certificates are the system's, or those of `SSL_CERT_FILE`.
    """
    app = Flask(__name__)
    store = sessions.connect(
        _nodes(environ["REDIS_NODES"]),
        environ["REDIS_PASSWORD"],
        ttl=timedelta(seconds=float(environ.get("SESSION_SECONDS", sessions.TTL.total_seconds()))),
        patience=float(environ.get("SESSION_PATIENCE_SECONDS", "3")),
    )
    cache = api_cache.connect(
        _nodes(environ["MEMCACHED_NODES"]),
        dead_timeout=float(environ.get("CACHE_DEAD_SECONDS", "60")),
    )
    app.extensions |= {"sessions": store, "api_cache": cache}

    def current() -> Session | None:
        session_id = request.cookies.get(COOKIE)
        return store.get(session_id) if session_id else None

    @app.post("/login")
    def login() -> Response:
        # The user was authenticated elsewhere.
        user_id = request.get_json()["user_id"]
        session = store.start(user_id, request.remote_addr or "", request.user_agent.string)
        response = jsonify(user_id=user_id)
        response.set_cookie(
            COOKIE, session.id, max_age=sessions.TTL, httponly=True, secure=True, samesite="Lax"
        )
        return response

    @app.get("/me")
    def me() -> Response:
        session = current()
        if session is None:
            return _unauthorized()
        store.touch(session)
        return jsonify(user_id=session.user_id, stale=session.stale)

    @app.post("/logout")
    def logout() -> Response:
        if session_id := request.cookies.get(COOKIE):
            store.end(session_id)
        response = Response(status=204)
        response.delete_cookie(COOKIE)
        return response

    @app.get("/products")
    def products() -> Response:
        category = request.args.get("category", "all")
        key = api_cache.key("products", "list", {"category": category})
        found = cache.get(key, 300, lambda: origin.products(category))
        return jsonify(products=found, total=len(found))

    @app.get("/profile")
    def profile() -> Response:
        session = current()
        if session is None:
            return _unauthorized()
        user_id = session.user_id
        key = api_cache.key("users", "profile", user_id)
        return jsonify(cache.get(key, 60, lambda: origin.profile(user_id)))

    @app.errorhandler(SessionsUnavailable)
    def unavailable(_error: SessionsUnavailable) -> Response:
        # Not 401: the user is not logged out.
        response = jsonify(error="try again soon")
        response.status_code = 503
        response.headers["Retry-After"] = str(RETRY_AFTER)
        return response

    return app


def _unauthorized() -> Response:
    response = jsonify(error="not logged in")
    response.status_code = 401
    return response


def _nodes(text: str) -> list[tuple[str, int]]:
    pairs = (node.rpartition(":") for node in text.split(","))
    return [(host, int(port)) for host, _, port in pairs]
