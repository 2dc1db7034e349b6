"""The swarm is a log: entries in, state and actions out. Pure: no clock, socket, file, randomness or array.

Theory of operation
-------------------
Every peer reads the same append-only log of signed entries and runs the same function over it:

- `State.apply(position, raw)` takes one entry. Members train and publish contributions; when a round closes, every
  member merges what stands in its log, attests the body of the block that it got, commits to a body that a quorum
  attested, and takes the block that a quorum committed. Then the next height opens. Where an engine showed members
  different logs, `next` votes open further views of the same height, and carry what may already be final.
- `decide(state, me, now_ms)` says what a peer should do now. It changes nothing.

Two rules
---------
1. **Persist before append.** Whatever a peer signs is in its own ledger, and in `Me` (`me.remember`), before the
   engine sees it. `decide` keeps a member honest only as long as `Me` remembers all that it signed.
2. **Apply only what was read.** A peer's own entries enter its `State` when it reads them back from the log, like
   everybody's; nothing else changes a `State`.

The contract with the node
--------------------------
Applying never rolls back. `position` is the peer's own ledger index, ascending by one per stored entry, and need not
be the engine's: after an engine lost or reordered a stretch, the peer reads again from the last common point, applies
(what it knows already costs nothing), and appends what the log lacks. ::

    state, me = State(genesis, verify), Me(key)
    for entry in own_ledger_entries: me.remember(entry)
    for position, raw in ledger: state.apply(position, raw)
    while True:
        for raw in log: if (result := state.apply(position, raw)).stored: ledger.store(position, raw); me.meet(...)
        me.observe(state, now_ms)
        for action in decide(state, me, now_ms): perform(action)

`State.apply` never raises for what it is given: it returns what became of the entry (`Applied`), counts what it ignores
(`state.ignored`), and lists the blocks that the entry made final. `verify(public_key, message, signature) -> bool` is
ed25519. `Me` and `State` are values of one peer, used from one thread.

Modules
-------
encoding   deterministic CBOR      shape    shapes of plain values    payloads  one record per kind of entry
entries    the signed envelope     genesis  the swarm's rules         body      what a block says
roster     members, quorum         chains   authors' chains, quotas   votes     attests, commits, certificates
rounds     what is merged          views    `next`, candidates        proposals changes of the roster
state      `State.apply`           replay   a whole log               decide    what a peer does next
me         a peer's own side       actions  what `decide` asks for    audit     an auditor that shares none of this
memo       work once per height    snapshot a state as bytes        adopt     starting from a checkpoint
wanted     what limits must let in
"""
