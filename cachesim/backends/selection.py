"""Choosing the backend when the settings say `backend = "auto"`."""

import contextlib
import os
import sys
from pathlib import Path

from cachesim.settings import Settings

_ENGINE_TIMEOUT = 0.2  # seconds; users without a Docker engine would notice more at every start
_SOCKET = Path("/var/run/docker.sock")


def choose(settings: Settings) -> tuple[str, str]:
    """Return the backend for these settings, and the reason.

    It is `docker` if a Docker engine answers within 0.2 s and has the images or may pull them, else
    `embedded`.
    """
    if settings.backend != "auto":
        return settings.backend, "as the settings say"
    if reason := no_engine_configured() or _reason_against_docker(settings):
        return "embedded", reason
    return "docker", "a Docker engine answers"


def no_engine_configured() -> str | None:
    """Return a message if nothing on this machine names a Docker engine, else None.

    Without an engine, this avoids the slow imports that are needed to ask it.
    """
    files = (_SOCKET, "~/.docker/config.json", "~/.testcontainers.properties")
    named = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    if sys.platform == "win32" or named or any(_exists(file) for file in files):
        return None
    return f"there is no Docker engine: no {_SOCKET}, and DOCKER_HOST is not set"


def _exists(file: str | Path) -> bool:
    return os.path.exists(os.path.expanduser(file))  # noqa: PTH110, PTH111  # a user may have no home


def _reason_against_docker(settings: Settings) -> str | None:
    from docker.errors import APIError, DockerException, ImageNotFound

    from cachesim.backends.containers.engine import connect
    from cachesim.errors import BackendUnavailable

    try:
        engine = connect(_ENGINE_TIMEOUT)
    except BackendUnavailable as error:
        return str(error.__cause__ or error)
    with contextlib.closing(engine.client):
        for image in (settings.server_image, settings.memcached_image, settings.toxiproxy_image):
            try:
                engine.client.images.get(image)
            except ImageNotFound:
                if settings.pull_images == "never":
                    return f"the image {image} is missing, and pull_images is never"
            except APIError:  # such as a bad name of an image: the start says what is wrong
                return None
            except (DockerException, OSError) as error:
                return f"the Docker engine does not answer: {error}"
    return None
