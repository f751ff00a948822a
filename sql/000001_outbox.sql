-- The schema objects of capture. `@schema@` stands for the quoted schema name, `@channel@` for the
-- quoted literal of the wake-up channel and `@lock@` for the two integers of the wake-up lock
-- (src/core/capture/names.ts). Everything belongs to the role that builds; writers of captured
-- tables need no right here.

-- One row: who this installation belongs to and what was built last.
create table @schema@.installation (
  singleton boolean primary key default true check (singleton),
  installation_id uuid not null default gen_random_uuid(),
  owner text not null,
  epoch bigint not null default 0,
  spec_hash text,
  version text,
  built_at timestamptz
);

-- The outbox is a log: rows are appended once, read by position, never updated or deleted one by one.
-- id is taken after the row lock of the captured row, so that ids of one key grow in commit order.
create sequence @schema@.outbox_id as bigint cache 1;

-- Number of the segment that writers append to. A sequence, because reading one is not bound to a
-- snapshot: an old transaction, too, appends to the segment of now.
create sequence @schema@.outbox_segment as integer minvalue 0 maxvalue 3 start 0;

create table @schema@.outbox (
  id bigint not null default nextval('@schema@.outbox_id'),
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default clock_timestamp(),
  segment smallint not null,
  operation "char" not null,
  schema_name text not null,
  table_name text not null,
  key text,
  old_key text,
  old text,
  new text,
  context text not null
) partition by list (segment);

-- Segments are emptied by TRUNCATE, so vacuum has nothing to collect.
create table @schema@.outbox_0 partition of @schema@.outbox for values in (0) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_1 partition of @schema@.outbox for values in (1) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_2 partition of @schema@.outbox for values in (2) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);
create table @schema@.outbox_3 partition of @schema@.outbox for values in (3) with (autovacuum_enabled = false, toast.autovacuum_enabled = false);

-- xid finds what is new since a snapshot; id (a few pages in all) cuts a large backlog into slices.
create index outbox_xid_index on @schema@.outbox (xid);
create index outbox_id_index on @schema@.outbox using brin (id) with (pages_per_range = 32);

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
  attempts integer not null,
  error text not null,
  failed_at timestamptz not null default now(),
  primary key (callback, id)
);

-- The key of a row as JSON array text; null when the table has no key, or a key column was renamed
-- or dropped after the build: a write must not fail for that.
create function @schema@.key_of(image json, columns text[]) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select case when count(*) > 0 and count(*) = count(image -> name)
    then '[' || string_agg((image -> name)::text, ',' order by position) || ']' end
  from unnest(columns) with ordinality as key_column (name, position)
$$;

-- One function an operation, shared by all tables; a trigger passes the names of its key columns.
-- Statement-level with transition tables: one call for any number of rows. row_to_json follows
-- columns that come and go without a new build. `offset 0` keeps the planner from evaluating the row
-- image twice; `n.*`, not `n`, because a column may be called n.
--
-- Each ends by waking a sleeping worker. A worker that sleeps holds the lock exclusively; while it
-- is awake the shared lock is granted and nothing is sent, so that the lock which NOTIFY takes at
-- commit is not touched under load.
create function @schema@.capture_insert() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := json_build_object(
    'session_user', session_user, 'application_name', current_setting('application_name'));
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, new, context)
  select current_segment, 'I', tg_table_schema, tg_table_name,
    case tg_nargs when 1 then '[' || (new_row.image -> tg_argv[0]) || ']'
      else @schema@.key_of(new_row.image, tg_argv) end,
    new_row.image, transaction_context
  from (select row_to_json(n.*) as image from pgevents_new as n offset 0) as new_row;
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

-- Pairs old and new rows by their position in the transition tables, which PostgreSQL fills side by
-- side. Nested loops are off because a plan cached for one row would be quadratic for many.
create function @schema@.capture_update() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_nestloop = off
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := json_build_object(
    'session_user', session_user, 'application_name', current_setting('application_name'));
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, old_key, old, new, context)
  select current_segment, 'U', tg_table_schema, tg_table_name,
    pair.new_key, nullif(pair.old_key, pair.new_key), pair.old_image, pair.new_image, transaction_context
  from (
    select
      old_row.image as old_image, new_row.image as new_image,
      case tg_nargs when 1 then '[' || (old_row.image -> tg_argv[0]) || ']'
        else @schema@.key_of(old_row.image, tg_argv) end as old_key,
      case tg_nargs when 1 then '[' || (new_row.image -> tg_argv[0]) || ']'
        else @schema@.key_of(new_row.image, tg_argv) end as new_key
    from (select row_number() over () as position, row_to_json(o.*) as image from pgevents_old as o) as old_row
    join (select row_number() over () as position, row_to_json(n.*) as image from pgevents_new as n) as new_row
      using (position)
    order by position
    offset 0
  ) as pair;
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

create function @schema@.capture_delete() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := json_build_object(
    'session_user', session_user, 'application_name', current_setting('application_name'));
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, old, context)
  select current_segment, 'D', tg_table_schema, tg_table_name,
    case tg_nargs when 1 then '[' || (old_row.image -> tg_argv[0]) || ']'
      else @schema@.key_of(old_row.image, tg_argv) end,
    old_row.image, transaction_context
  from (select row_to_json(o.*) as image from pgevents_old as o offset 0) as old_row;
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

create function @schema@.capture_truncate() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, context)
  select last_value, 'T', tg_table_schema, tg_table_name, json_build_object(
    'session_user', session_user, 'application_name', current_setting('application_name'))
  from @schema@.outbox_segment;
  if not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

revoke all on all functions in schema @schema@ from public;
