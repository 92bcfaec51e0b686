"""The folder of a composed topology: writing it for `docker compose`, and reading what it holds.

All but `secrets/` is public, the same each time it is written, and meant to be checked in;
`cachesim.backends.compose.render` makes these files. The secrets are drawn once and kept.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachesim.backends.address_plan import (
    Plan,
    auth_files,
    certificate_files,
    check_for_pods,
    first_endpoints,
    first_ports,
)
from cachesim.backends.compose.render import COMPOSE_FILE, render
from cachesim.backends.ports import fixed_ports
from cachesim.errors import CachesimError, SettingsError, StartError
from cachesim.servers.certificates import CertificateAuthority, hosts_in
from cachesim.servers.credentials import Credentials
from cachesim.settings import PORTS_PER_ZONE, Settings, load_settings
from cachesim.topology import Topology, production

BASE_PORT = 17000
"""The first port if none is given."""

_MANIFEST = "cachesim.json"
"""The file with the settings and the first port that the folder was written for."""
_KEPT_SETTINGS = {"name", "engine", "memory_scale", "node_timeout_seconds", "advertise_host"}
_SECRETS = "secrets"
_TOKEN, _ADMIN_PASSWORD, _CA = "token", "admin-password", "ca.pem"  # files of `_SECRETS`
_PUBLIC_MODE, _SECRET_MODE = 0o644, 0o600


@dataclass(frozen=True)
class ComposedFolder:
    """The contents of a folder of `cachesim compose`.

    Attributes:
        settings: those that it was written for, by key, with the topology's name.
        ca: the CA of its certificates, PEM.
    """

    path: Path
    settings: Mapping[str, Any]
    plan: Plan
    credentials: Credentials
    ca: bytes


def compose_command(folder: Path) -> str:
    """Return the beginning of a compose command line for a folder, to be shown to users."""
    return f"docker compose -f {shlex.quote(str(folder / COMPOSE_FILE))}"


def fixed_plan(topology: Topology, base_port: int) -> Plan:
    """Return the plan whose ports begin at `base_port`: ten for each zone, six of them used."""
    ports, endpoints = first_ports(topology, base_port), first_endpoints(base_port)
    return Plan(topology, ports, endpoints=endpoints)


def _default_name(folder: Path) -> str:
    """Return the default name of a topology: its folder's, without special characters."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower())[:40].strip("-_")
    return name or "compose"


# --- reading --------------------------------------------------------------------------------


def read_folder(folder: Path) -> ComposedFolder:
    """Read a folder that `cachesim compose` has written.

    Raises:
        StartError: it is not such a folder, or has no secrets yet.
    """
    folder = folder.resolve()
    try:
        settings, base_port = _read_manifest(folder)
        settings["name"] = settings["name"] or _default_name(folder)
        plan = fixed_plan(production(settings["memory_scale"]), base_port)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartError(
            f"{folder} is no folder of `cachesim compose`: {_MANIFEST}: {error}. "
            f"Write one with `cachesim compose {folder}`, and bring it up."
        ) from error
    try:
        credentials, ca = _read_secrets(folder / _SECRETS)
    except OSError as error:
        raise StartError(
            f"the secrets of {folder} can't be read: {error}. Make them readable; if "
            f"there are none, run `cachesim compose {folder}`, and bring it up."
        ) from error
    return ComposedFolder(folder, settings, plan, credentials, ca)


def _read_manifest(folder: Path) -> tuple[dict[str, Any], int]:
    """Return the settings that a folder was written for, by key, and its first port.

    Raises:
        OSError, ValueError, KeyError, TypeError: the manifest is missing or damaged.
    """
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    return dict(manifest["settings"]), int(manifest["base_port"])


def _read_secrets(secrets: Path) -> tuple[Credentials, bytes]:
    """Return what clients and the control plane need: the passwords, and the CA as PEM.

    Raises:
        OSError: a file is missing or can't be read.
    """
    token, password = (
        (secrets / name).read_text(encoding="utf-8").strip() for name in (_TOKEN, _ADMIN_PASSWORD)
    )
    return Credentials(token, password), (secrets / _CA).read_bytes()


# --- writing --------------------------------------------------------------------------------


def kept_settings(
    folder: Path, arguments: Mapping[str, object], base_port: int | None = None
) -> tuple[Settings, int]:
    """Return the settings and the first port to write a folder for.

    A folder that was written before keeps the settings that are not given now, so that all who
    clone it get the same.

    Args:
        arguments: settings by name; None means not given.
        base_port: None means not given; then it is the setting `ports`.

    Raises:
        SettingsError: a setting is wrong, or `ports` is no first port.
    """
    kept: Mapping[str, object] = {}
    port = BASE_PORT
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept, port = _read_manifest(folder)
    sources = load_settings(arguments).sources
    kept = {key: value for key, value in kept.items() if sources.get(key) == "default"}
    settings = load_settings({**arguments, **kept}).settings
    if base_port is not None:
        port = base_port
    elif settings.ports is not None:
        if not settings.ports.isdecimal():
            raise SettingsError(
                f"ports = {settings.ports!r}: a folder takes a first port only, such as {BASE_PORT}"
            )
        port = int(settings.ports)
    return settings, port


def write_folder(folder: Path, settings: Settings, base_port: int = BASE_PORT) -> list[Path]:
    """Write what `docker compose` needs to bring the topology up.

    Files that were written before are replaced, but secrets are kept.

    Args:
        folder: new, empty, or written by this before.
        base_port: the first of thirty ports, all published on 127.0.0.1.

    Returns:
        The files, the secrets among them.

    Raises:
        SettingsError: `base_port` is out of range, or a link would have the port of a server.
        CachesimError: the folder has other files or can't be written, or its secrets don't fit
            the settings.
    """
    topology = production(settings.memory_scale)
    count = PORTS_PER_ZONE * len(topology.zones)
    if not 1024 <= base_port <= 65536 - count:
        raise SettingsError(
            f"base_port = {base_port}: it is the first of {count} ports, "
            f"so choose one from 1024 to {65536 - count}, such as {BASE_PORT}"
        )
    check_for_pods(fixed_ports(str(base_port), topology))
    folder = folder.resolve()
    plan = fixed_plan(topology, base_port)
    kept = settings.model_dump(include=_KEPT_SETTINGS)
    manifest = json.dumps({"base_port": base_port, "settings": kept}, indent=2) + "\n"
    public = render(plan, settings, settings.name or _default_name(folder))
    public[_MANIFEST] = manifest
    try:
        _claim(folder)
        for path, text in public.items():
            _write(folder / path, text.encode(), _PUBLIC_MODE)
        secrets = _write_secrets(folder, topology, settings.advertise_host)
    except OSError as error:
        raise CachesimError(
            f"{folder} can't be written: {error}. Fix that, or choose another folder."
        ) from error
    return [*(folder / path for path in public), *secrets]


def _claim(folder: Path) -> None:
    """Create the folder, unless it has files that `cachesim compose` did not write."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir())
    if others and _MANIFEST not in others:
        raise CachesimError(
            f"{folder} has files that are not from `cachesim compose`: {', '.join(others[:3])}. "
            "Choose a folder that is empty or does not exist yet."
        )


def _write_secrets(folder: Path, topology: Topology, host: str | None) -> list[Path]:
    """Draw the secrets, or check and keep those that are there."""
    secrets = folder / _SECRETS
    if not secrets.exists():
        _draw_secrets(folder, topology, host)
    advice = (
        f"Remove {secrets}, run this again, and bring the topology up with "
        f"`{compose_command(folder)} up -d --wait --force-recreate`."
    )
    try:
        credentials, _ = _read_secrets(secrets)
        for node in topology.nodes:
            certified = hosts_in((secrets / node.name / "cert.pem").read_bytes())
            (secrets / node.name / "key.pem").read_bytes()
            if host is not None and host not in certified:
                raise CachesimError(
                    f"the certificates in {secrets} are not for {host} (advertise_host), "
                    f"but for {', '.join(sorted(certified))}. {advice}"
                )
    except (FileNotFoundError, ValueError) as error:
        raise CachesimError(f"the secrets in {secrets} are damaged: {error}. {advice}") from error
    # Made from the passwords, which a user may have replaced.
    for path, text in auth_files(topology, credentials).items():
        _write(secrets / path, text.encode(), _SECRET_MODE)
    return sorted(path for path in secrets.rglob("*") if path.is_file())


def _draw_secrets(folder: Path, topology: Topology, host: str | None) -> None:
    """Draw passwords and certificates, all or none."""
    ca, credentials = CertificateAuthority([host] if host else []), Credentials()
    files = {
        ".gitignore": b"*\n",
        _TOKEN: credentials.token.encode(),
        _ADMIN_PASSWORD: credentials.admin_password.encode(),
        _CA: ca.pem,
        **certificate_files(topology, ca),
    }
    drawn = Path(tempfile.mkdtemp(prefix=f".{_SECRETS}-", dir=folder))
    try:
        for path, content in files.items():
            _write(drawn / path, content, _SECRET_MODE)
        drawn.rename(folder / _SECRETS)
    except BaseException:
        shutil.rmtree(drawn, ignore_errors=True)
        raise


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically. The new one has these permissions from the beginning."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode == _SECRET_MODE else 0o777)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
