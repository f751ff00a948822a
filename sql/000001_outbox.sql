-- The tables of capture. `@schema@` stands for the quoted schema name (src/core/capture/names.ts).
-- Everything belongs to the role that builds; writers of captured tables need no right here.

-- The outbox is a log: rows are appended once, read by position, never deleted one by one, and updated only by the
-- transaction that wrote them (functions_order.sql).
-- id is taken after the row lock of the captured row, so that ids of one key grow in commit order.
create sequence @schema@.outbox_id as bigint cache 1;

-- Number of the segment that writers append to. A sequence, because reading one is not bound to a
-- snapshot: an old transaction, too, appends to the segment of now.
create sequence @schema@.outbox_segment as integer minvalue 0 maxvalue 3 start 0;
select setval('@schema@.outbox_segment', 0); -- pg_sequence_last_value knows of no value before

create table @schema@.outbox (
  -- Of a row that holds several events the last one's.
  id bigint not null default nextval('@schema@.outbox_id'),
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default clock_timestamp(),
  segment smallint not null,
  operation "char" not null,
  schema_name text not null,
  table_name text not null,
  -- The same for all rows of a table: its key columns and the version of its columns, as JSON.
  about text,
  old text,
  new text,
  -- Who wrote; null where it is not known.
  role text default session_user,
  application text default current_setting('application_name'),
  -- What else there is to tell of the circumstances, as JSON.
  context text,
  -- Several rows that one statement wrote (functions_packing.sql): the ids of their events, and in place of `old` and
  -- `new` JSON arrays: of the columns' names, and for each column of the values. Not compressed: that costs the writer
  -- more than the columns.
  ids bigint[],
  old_columns json[],
  new_columns json[]
) partition by list (segment);
alter table @schema@.outbox
  alter old_columns set storage external,
  alter new_columns set storage external;

-- Writers append to a segment by its own name, which is cheaper than by way of the outbox. Segments are emptied
-- by TRUNCATE, so vacuum has nothing to collect.
create table @schema@.outbox_0 partition of @schema@.outbox (segment default 0) for values in (0) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_1 partition of @schema@.outbox (segment default 1) for values in (1) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_2 partition of @schema@.outbox (segment default 2) for values in (2) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_3 partition of @schema@.outbox (segment default 3) for values in (3) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);

-- xid finds what is new since a snapshot; id (a few pages in all) cuts a large backlog into slices.
create index outbox_xid_index on @schema@.outbox (xid);
create index outbox_id_index on @schema@.outbox using brin (id) with (pages_per_range = 32);

-- Counts changes that could not be captured (onError: Skip).
create sequence @schema@.skipped_changes as bigint minvalue 0 start 0;
select setval('@schema@.skipped_changes', 0);

-- When each segment was opened and closed for writers; the worker's pruner keeps it.
create table @schema@.segment (
  number smallint primary key,
  opened_at timestamptz,
  closed_at timestamptz
);
insert into @schema@.segment (number, opened_at)
values (0, now()), (1, null), (2, null), (3, null);

-- One row a callback: how far it is, who relays to it, and how it fares.
create table @schema@.callback (
  name text primary key,
  -- Everything visible in `seen` is done. While a window (seen, ahead] is under way, its rows up to
  -- `ahead_id` are done as well.
  seen pg_snapshot not null,
  ahead pg_snapshot,
  ahead_id bigint,
  -- Ids beyond that which are done all the same: noted by a relay that ends while others wait for something.
  passed bigint[],
  -- The lease. `term` grows with each holder; a write with an old term changes nothing.
  holder text,
  term bigint not null default 0,
  expires_at timestamptz,
  -- The holder's database session (pid and start); when that is gone the lease may be taken at once.
  -- Null behind a transaction pooler, where sessions say nothing about the holder.
  holder_pid integer,
  holder_started timestamptz,
  state text not null default 'Waiting',
  last_error text,
  state_since timestamptz not null default now(),
  created_at timestamptz not null default now(),
  check ((ahead is null) = (ahead_id is null))
) with (fillfactor = 50);

-- Events that a callback refused for good, or whose attempts are used up; whole rows, so that they
-- outlive the segment.
create table @schema@.dead_letter (
  callback text not null,
  id bigint not null,
  xid xid8 not null,
  at timestamptz not null,
  operation "char" not null,
  schema_name text not null,
  table_name text not null,
  key text,
  old_key text,
  old text,
  new text,
  context text not null,
  schema_version text,
  attempts integer not null,
  error text not null,
  failed_at timestamptz not null default now(),
  -- The callback whose dead letter this is (with `/`, the way it took); empty: it is this callback's own event.
  letter_of text not null default '',
  -- Why it is a dead letter there: {"error", "attempts"}.
  letter json,
  -- It came of that replay; null: of none.
  replay bigint,
  primary key (callback, id, letter_of)
);
