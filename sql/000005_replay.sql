-- Events that are delivered again: dead letters that were told to, a range of the outbox (replay), and dead letters
-- of one callback for another. They lie in `parked` like events whose attempts fail. ADR 10.

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
