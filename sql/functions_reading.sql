-- How the outbox is read. Functions, because only they can carry the planner settings that each query
-- needs through every kind of connection pooler: the outbox has no statistics (it is never analyzed),
-- and a plan that reads a whole segment for a few new rows must not happen.

-- What became visible since the snapshot `seen`, lowest ids first, with the snapshot of this read in
-- every row. One row of nulls beside the snapshot when there is nothing. A single statement, so that
-- rows and snapshot belong together. Row images over deferred_bytes are left out.
create or replace function @schema@.read_fresh(seen pg_snapshot, row_limit integer, deferred_bytes integer)
  returns table (
    snapshot text, id bigint, xid xid8, at json, operation "char", schema_name text, table_name text,
    key text, old_key text, old text, new text, context text, bytes integer)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  first_new xid8 := pg_snapshot_xmax(seen);
  running xid8[] := array(select pg_snapshot_xip(seen));
begin
  return query
    select this.snapshot, fresh.id, fresh.xid, to_json(fresh.at at time zone 'UTC'), fresh.operation,
      fresh.schema_name, fresh.table_name, fresh.key, fresh.old_key,
      case when fresh.bytes <= deferred_bytes then fresh.old end,
      case when fresh.bytes <= deferred_bytes then fresh.new end,
      fresh.context, fresh.bytes
    from (select pg_current_snapshot()::text as snapshot) as this
    left join (
      select *, coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0) as bytes
      from (
        select * from @schema@.outbox where xid >= first_new
        union all
        select * from @schema@.outbox where xid = any (running)
      ) as every
      order by id
      limit row_limit
    ) as fresh on true
    order by fresh.id;
end
$$;

-- The events of the window (seen, ahead] with ids above `after` up to `last`. The conditions on xid
-- are written so that no index serves them: the one on ids has to.
create or replace function @schema@.read_slice(
    seen pg_snapshot, ahead pg_snapshot, after bigint, last bigint, deferred_bytes integer)
  returns table (
    snapshot text, id bigint, xid xid8, at json, operation "char", schema_name text, table_name text,
    key text, old_key text, old text, new text, context text, bytes integer)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    select null::text, slice.id, slice.xid, to_json(slice.at at time zone 'UTC'), slice.operation,
      slice.schema_name, slice.table_name, slice.key, slice.old_key,
      case when slice.bytes <= deferred_bytes then slice.old end,
      case when slice.bytes <= deferred_bytes then slice.new end,
      slice.context, slice.bytes
    from (
      select *, coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0) as bytes
      from @schema@.outbox
      where id > after and id <= last
        and pg_visible_in_snapshot(xid, ahead)
        and not pg_visible_in_snapshot(xid, seen)
    ) as slice
    order by slice.id;
end
$$;

-- How much a callback has before it: counted exactly up to count_limit.
create or replace function @schema@.pending_events(callback_name text, count_limit integer)
  returns table (counted bigint, first_id bigint, oldest timestamptz)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  callback @schema@.callback;
  first_new xid8;
  running xid8[];
begin
  select * into callback from @schema@.callback where name = callback_name;
  first_new := pg_snapshot_xmax(callback.seen);
  running := array(select pg_snapshot_xip(callback.seen));
  return query
    select count(*), min(id), min(at)
    from (
      select id, at
      from (
        select id, xid, at from @schema@.outbox where xid >= first_new
        union all
        select id, xid, at from @schema@.outbox where xid = any (running)
      ) as fresh
      where callback.ahead is null or id > callback.ahead_id or not pg_visible_in_snapshot(xid, callback.ahead)
      limit count_limit
    ) as unread;
end
$$;

-- Whether some callback has not got every row of a segment.
create or replace function @schema@.segment_is_needed(segment_number smallint)
  returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_custom_plan
as $$
declare
  callback @schema@.callback;
begin
  for callback in select * from @schema@.callback loop
    if exists (
      select from @schema@.outbox
      where segment = segment_number
        and xid >= pg_snapshot_xmin(callback.seen)
        and not pg_visible_in_snapshot(xid, callback.seen)
        and (callback.ahead is null or id > callback.ahead_id or not pg_visible_in_snapshot(xid, callback.ahead))
    ) then
      return true;
    end if;
  end loop;
  return false;
end
$$;
