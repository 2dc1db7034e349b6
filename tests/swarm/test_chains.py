"""Facts about authors' chains and quotas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import Author
from world import h, make_genesis, signed

from swarmcell.swarm import chains as module
from swarmcell.swarm.chains import CONTRADICTIONS_MAX, Chains
from swarmcell.swarm.entries import NO_DIGEST
from swarmcell.swarm.genesis import Quotas
from swarmcell.swarm.payloads import Blob, Patience

GENESIS = make_genesis(3, 0)
ROOMY = Quotas(entries=10**6, size_bytes=2**40)


def entries(n, name="m0"):
    author = Author(GENESIS, name)
    return [author.entry(Patience(round=i + 1)) for i in range(n)]


def take(chains, *found):
    for entry in found:
        if not chains.refusal(entry):
            chains.record(entry)
    return chains


def loose(sequence, what=1):
    return signed(GENESIS, h("sign", "m0"), sequence, NO_DIGEST, Patience(round=what))


def test_more_entries_than_the_quota_are_refused_until_the_next_height():
    chains = Chains(Quotas(entries=3))
    three = entries(4)
    take(chains, *three[:3])
    assert chains.refusal(three[3]) == "over quota"
    chains.new_height()
    assert chains.refusal(three[3]) == ""


def test_more_bytes_than_the_quota_are_refused_and_others_are_not():
    chains = Chains(Quotas(size_bytes=3000))
    one = Author(GENESIS, "m0")
    take(chains, one.entry(Blob(content=bytes(2000))))
    assert chains.refusal(one.entry(Blob(content=bytes(2000)))) == "over quota"
    assert chains.refusal(Author(GENESIS, "m1").entry(Blob(content=bytes(2000)))) == ""


def test_two_entries_at_one_sequence_are_evidence():
    chains = take(Chains(ROOMY), loose(1, 1), loose(1, 2))
    (evidence,) = chains.evidence
    assert (evidence.author, evidence.sequence) == (h("sign", "m0"), 1)
    assert {evidence.first, evidence.second} == {loose(1, 1).digest, loose(1, 2).digest}
    assert evidence.first < evidence.second


def test_an_entry_that_names_another_before_it_is_evidence():
    first = entries(1)[0]
    chains = take(Chains(ROOMY), first, signed(GENESIS, first.author, 2, h("other"), Patience(round=1)))
    assert len(chains.evidence) == 1


def test_contradictions_have_a_limit():
    chains = take(Chains(ROOMY), *(loose(1, what) for what in range(1, CONTRADICTIONS_MAX + 2)))
    assert chains.refusal(loose(1, 10_000)) == "contradiction"


@given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
def test_in_any_order_an_honest_chain_gives_no_evidence_and_the_same_gaps(order, lost):
    mine = entries(12)
    chains = take(Chains(ROOMY), *(mine[i] for i in order if i not in lost))
    assert not chains.evidence
    there = sorted(set(range(12)) - lost)
    missing = next((i for i in range(12) if i in lost), 12)
    assert chains.gaps() == ({mine[0].author: missing + 1} if there and there[-1] > missing else {})


@given(st.permutations(range(6)))
def test_an_entry_is_known_once_it_was_recorded(order):
    mine = entries(6)
    chains = take(Chains(ROOMY), *(mine[i] for i in order))
    assert {chains.refusal(entry) for entry in mine} == {"duplicate"}


@pytest.mark.parametrize("stride", [2, 3])
def test_an_author_who_skips_sequences_is_borne(monkeypatch, stride):
    """It cost a stack frame per skipped sequence once, and a reader without end."""
    monkeypatch.setattr(module, "WINDOW", 64)
    chains = take(Chains(ROOMY), *(loose(s) for s in range(1, 4000 * stride, stride)))
    chain = chains.by_author[h("sign", "m0")]
    assert len(chain.digests) <= 2 * 64
    assert chain.whole > 3000


def test_a_gap_behind_a_whole_stretch_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 64)
    numbers = [*range(1, 101), *range(102, 400)]
    chains = take(Chains(ROOMY), *(loose(s) for s in numbers))
    assert chains.gaps() == {}
    assert chains.refusal(loose(101)) == "old"


@settings(max_examples=50)
@given(st.lists(st.integers(1, 400), max_size=400))
def test_memory_is_bounded_and_whole_never_falls(numbers):
    saved, module.WINDOW = module.WINDOW, 16
    try:
        chains, whole = Chains(ROOMY), 0
        for s in numbers:
            take(chains, loose(s))
            chain = chains.by_author[h("sign", "m0")]
            assert whole <= chain.whole <= chain.highest
            assert len(chain.digests) <= 2 * 16
            whole = chain.whole
    finally:
        module.WINDOW = saved


def test_a_resumed_chain_begins_where_it_is_first_seen():
    chains = Chains(ROOMY)
    chains.resumed = True
    take(chains, *entries(9)[5:])
    assert chains.gaps() == {}


def test_chains_survive_their_dump():
    chains = take(Chains(ROOMY), *entries(5)[:3], *entries(5)[4:], loose(2, 7))
    again = Chains(ROOMY)
    again.load(chains.dump())
    assert again.by_author == chains.by_author
