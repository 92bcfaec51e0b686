"""The messages in the inbox. Data, no I/O."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Message:
    """One message in the inbox.

    Attributes:
        number: from 1. A reset forgets the messages; their numbers go on.
        at: in monotonic seconds, as the events' times.
        about: the alarm, or ElastiCache's name of the event.
        to: the service: `PagerDuty`, `Slack`, or the name of an SNS topic.
        subject: its subject.
        envelope: SNS's, as an HTTP subscriber gets it; `Message` in it is text.
        received: what the service gets; None: it drops the message.
        note: why it is dropped, or what else is to be known; may be empty.
    """

    number: int
    at: float
    about: str
    to: str
    subject: str
    envelope: dict[str, Any]
    received: dict[str, Any] | None
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)
