"""The votes of one height: attests, commits and nexts, the certificates they make, and the views they open.

Rules: only members of the height's roster count, each once per view and body; a vote counts wherever it stands in its
author's chain. A quorum of equal attests of one view is a certificate; a quorum of equal commits of one view makes the
body final; a quorum of nexts opens a view. A `next` that claims a certificate counts from when its attests are known.
"""

from dataclasses import dataclass

from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import Entry
from swarmcell.swarm.payloads import Attest, Commit, Next
from swarmcell.swarm.roster import Roster, is_member

BODIES_PER_AUTHOR_MAX = 8  # an honest member shows one body per view that it commits in
VOTES_PER_VIEW_MAX = 2  # of one author and kind: an honest one casts one, two are evidence, more are noise


@dataclass(frozen=True, slots=True)
class Final:
    """A quorum of commits: the view, the body's digest and the raw commits, in the order of the log."""

    view: int
    body: bytes
    commits: tuple[bytes, ...]


class Ballot:
    """The votes of one height.

    Attributes
    ----------
    attests
        Authors by (view, body digest).
    commits
        Raw entries by author, by (view, body digest).
    nexts
        First counted `next` per author, by view.
    bodies
        Body bytes that votes carried, by digest.
    kept
        The votes that counted, in the order in which they were read.
    opened
        The first quorum of nexts of a view, in the order in which they counted here.
    """

    def __init__(self, height: int, roster: Roster) -> None:
        self.height = height
        self.roster = roster
        self.attests: dict[tuple[int, bytes], dict[bytes, None]] = {}
        self.commits: dict[tuple[int, bytes], dict[bytes, bytes]] = {}
        self.nexts: dict[int, dict[bytes, Next]] = {}
        self.called: dict[bytes, int] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.opened: dict[int, tuple[Next, ...]] = {}
        self.certified: dict[int, bytes] = {}
        self.final: Final | None = None
        self.kept: list[Entry] = []
        self._unproven: list[tuple[bytes, Next]] = []
        self._cast: dict[tuple[bytes, str, int], int] = {}
        self._shown: dict[bytes, int] = {}

    def add(self, entry: Entry, *, wanted: bool = False) -> str:
        """Count a vote, beyond the limits if it is wanted; return why it does not count, or nothing."""
        vote = entry.payload
        if not isinstance(vote, Attest | Commit | Next):
            return "not a vote"
        if not is_member(self.roster, entry.author):
            return "not a member"
        cast = (entry.author, vote.KIND, vote.view)
        if self._cast.get(cast, 0) >= VOTES_PER_VIEW_MAX and not wanted:
            return "too many votes"
        if fault := self._fault(vote) or self._show(entry.author, vote):
            return fault
        self._cast[cast] = self._cast.get(cast, 0) + 1
        self.kept.append(entry)
        match vote:
            case Attest():
                self._attest(entry.author, vote)
            case Commit():
                self._commit(entry, vote)
            case Next():
                self._next(entry.author, vote)
        return ""

    def claimed(self) -> set[tuple[int, bytes]]:
        """Return the certificates (view, body) that nexts claim and this peer has not seen."""
        return {(vote.certified - 1, body_digest(vote.content)) for _, vote in self._unproven}

    def has_attest(self, author: bytes, vote: Attest) -> bool:
        """Say whether this very attest was counted."""
        return author in self.attests.get((vote.view, vote.body), ())

    def has_certificate(self, view: int, body: bytes) -> bool:
        """Say whether a quorum attested this body in this view."""
        return len(self.attests.get((view, body), ())) >= self.roster.quorum

    @property
    def view(self) -> int:
        """The highest open view."""
        return max(self.opened, default=0)

    def calls(self, key: bytes) -> int:
        """Return the highest view to which more members than lie, `key` apart, have called."""
        views = sorted((view for author, view in self.called.items() if author != key), reverse=True)
        return views[self.roster.doubt - 1] if len(views) >= self.roster.doubt else 0

    def _fault(self, vote: Attest | Commit | Next) -> str:
        """Say what is wrong with a vote in itself."""
        match vote:
            case Commit(content=content) if content:
                fits = body_digest(content) == vote.body and self._is_body(content)
            case Next(content=content):
                fits = bool(content) == (vote.certified > 0) and vote.certified <= vote.view
                fits = fits and (not content or self._is_body(content))
            case _:
                fits = True
        return "" if fits else "malformed"

    def _is_body(self, content: bytes) -> bool:
        try:
            return body_digest(content) in self.bodies or decode_body(content).height == self.height
        except EncodingError:
            return False

    def _show(self, author: bytes, vote: Attest | Commit | Next) -> str:
        """Keep the body that a vote carries; return why it is not kept."""
        if isinstance(vote, Attest) or not vote.content or body_digest(vote.content) in self.bodies:
            return ""
        if self._shown.get(author, 0) >= BODIES_PER_AUTHOR_MAX:
            return "too many bodies"
        self._shown[author] = self._shown.get(author, 0) + 1
        self.bodies[body_digest(vote.content)] = vote.content
        return ""

    def _attest(self, author: bytes, vote: Attest) -> None:
        self.attests.setdefault((vote.view, vote.body), {})[author] = None
        if vote.view not in self.certified and self.has_certificate(vote.view, vote.body):
            self.certified[vote.view] = vote.body
            waiting, self._unproven = self._unproven, []
            for other, claim in waiting:
                self._next(other, claim)

    def _commit(self, entry: Entry, vote: Commit) -> None:
        votes = self.commits.setdefault((vote.view, vote.body), {})
        votes[entry.author] = entry.raw
        if self.final is None and len(votes) >= self.roster.quorum:
            self.final = Final(vote.view, vote.body, tuple(votes.values()))

    def _next(self, author: bytes, vote: Next) -> None:
        self.called[author] = max(vote.view, self.called.get(author, 0))
        if vote.certified and not self.has_certificate(vote.certified - 1, body_digest(vote.content)):
            self._unproven.append((author, vote))
            return
        votes = self.nexts.setdefault(vote.view, {})
        votes.setdefault(author, vote)
        if vote.view not in self.opened and len(votes) >= self.roster.quorum:
            self.opened[vote.view] = tuple(votes.values())
