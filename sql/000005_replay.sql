-- Events that are delivered again: dead letters that were told to, a range of the outbox (replay), and dead letters
-- of one callback for another. They lie in `parked` like events whose attempts fail. ADR 10.

alter table @schema@.parked
  -- The callback whose dead letter this is (with `/`, the way it took); empty: it is this callback's own event.
  add column letter_of text not null default '',
  -- Why it is a dead letter there: {"error", "attempts"}.
  add column letter json,
  -- Null: parked because attempts failed. 0: a dead letter, delivered again. Else the replay.
  add column replay bigint,
  -- A relay has it in memory, or had.
  add column taken boolean not null default true,
  drop constraint parked_pkey,
  add primary key (callback, id, letter_of);
create index parked_waiting_index on @schema@.parked (callback, id) where not taken;
create index parked_replay_index on @schema@.parked (callback, replay) where replay is not null;

alter table @schema@.dead_letter
  add column letter_of text not null default '',
  add column letter json,
  add column replay bigint,
  drop constraint dead_letter_pkey,
  add primary key (callback, id, letter_of);

-- What a callback is to get again, one after the other.
create table @schema@.replay (
  id bigint generated always as identity primary key,
  callback text not null,
  -- Ids from .. until, both included.
  from_id bigint not null,
  until_id bigint not null,
  -- Further limits; null: none.
  since timestamptz,
  until timestamptz,
  from_position pg_snapshot,
  tables json,
  -- What the callback had when it was asked for: nothing else is replayed.
  seen pg_snapshot not null,
  ahead pg_snapshot,
  ahead_id bigint,
  -- Ids up to here were looked at, and so many events of them are to be delivered, or were.
  read_id bigint not null,
  events bigint not null default 0,
  -- A part of the range was dropped at the outbox's limit meanwhile.
  incomplete boolean not null default false,
  requested_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  cancelled boolean not null default false
);

-- Until when events may be gone from the outbox, because their segment was emptied; null: none is.
alter table @schema@.installation add column gone_until timestamptz;
