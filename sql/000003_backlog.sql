-- What keeps the outbox healthy: limits of its size and age, what was given up for them, and a way to notice
-- that the server is not the one whose history a worker has in mind. ADR 6.

-- Minus one: capture is paused, and writers append nothing.
alter sequence @schema@.outbox_segment minvalue -1;

alter table @schema@.callback
  -- Events that were dropped before the callback had them: rows of the outbox, whatever its filter.
  add column lost_events bigint not null default 0;

-- What was not captured or not delivered, the last 30 days of it.
create table @schema@.loss (
  id bigint generated always as identity primary key,
  -- Dropped: a segment was emptied. Paused: nothing was captured. Skipped: capture failed (onError: Skip).
  kind text not null check (kind in ('Dropped', 'Paused', 'Skipped')),
  -- The limit, Bytes or Age; null for Skipped.
  reached text,
  -- Dropped: the callback that had not got these events; null for the others, which concern them all.
  callback text,
  -- Exact up to a million, then an estimate from ids; of Paused one from the statistics of the tables.
  events bigint not null default 0,
  -- Dropped: the times of the first and the last event. Paused: when nothing was written; null while it lasts.
  -- Skipped: when it was noticed first and last.
  started_at timestamptz not null,
  ended_at timestamptz,
  at timestamptz not null default clock_timestamp()
);
create unique index loss_open_index on @schema@.loss (kind) where ended_at is null;

-- How many of the changes that could not be captured `loss` tells of.
alter table @schema@.installation add column skipped_told bigint not null default 0;

-- Rows of the outbox change only in the transaction that wrote them (move_nested), and when they have come from another
-- server (renew_positions); that has to work beside a publication of all tables, too.
alter table @schema@.outbox_0 replica identity full;
alter table @schema@.outbox_1 replica identity full;
alter table @schema@.outbox_2 replica identity full;
alter table @schema@.outbox_3 replica identity full;

-- Unlogged on purpose: a crash, a promoted replica and a restored backup leave it empty. What a worker has
-- read before may then never have happened, and transaction ids may be given out a second time.
create unlogged table @schema@.life (
  singleton boolean primary key default true check (singleton),
  token uuid not null default gen_random_uuid()
);
