"""The links of the production topology, on servers in memory."""

from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.topology import Link, Topology, production
from cachesim.toxiproxy.toxics import BOTH, Latency, Stream
from tests.fakes import Call, FakeToxiproxy, toxiproxies

UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM
SLOW = Latency(100)


class LinksRig:
    """The links of the production topology on servers in memory.

    Attributes:
        frozen: the nodes whose process is frozen.
        link: a link to try things on.
        renewed: zones that were given a new Toxiproxy.
    """

    def __init__(self) -> None:
        self.topology: Topology = production()
        self.calls: list[Call] = []
        self.servers = toxiproxies(self.topology, self.calls)
        self.events = EventLog()
        self.frozen: set[str] = set()
        self.renewed: list[str] = []
        self.links = Links(
            self.topology, self.servers, self.events, self.frozen.__contains__, self.renew
        )
        self.link = self.links["b-to-redis-a"]

    def renew(self, zone: str) -> None:
        """Give a zone a new Toxiproxy."""
        self.renewed.append(zone)
        self.servers[zone].renew()

    @property
    def server(self) -> FakeToxiproxy:
        """The server of `link`."""
        return self.servers["b"]

    def stall(self, holder: object, *links: Link) -> None:
        """Stall both streams of links, or of `link`."""
        self.links.hold_stall(holder, dict.fromkeys(links or [self.link], BOTH))

    def slow(self, holder: object, link: Link | None = None) -> None:
        """Add a latency to the downstream of a link, or of `link`."""
        self.links.hold_toxic(holder, [link or self.link], SLOW, [DOWN])

    def does(self, link: Link | None = None, stream: Stream = DOWN) -> list[str]:
        """Return the effects of the toxics of a link, or of `link`, in order."""
        link = link or self.link
        return self.servers[link.home].does(link.name, stream)

    def did(self) -> list[Call]:
        """Return the calls about all links since this was last called."""
        calls = list(self.calls)
        self.calls.clear()
        return calls

    def between(self, one: str, other: str) -> list[Link]:
        """The links between two zones."""
        return [link for link in self.topology.links if link.joins(one, other)]

    def is_whole(self) -> bool:
        """Whether every proxy is enabled and no toxic does anything."""
        return all(
            self.servers[link.home].is_enabled(link.name)
            and not self.does(link, UP)
            and not self.does(link, DOWN)
            for link in self.topology.links
        )
