-- The health of the outbox: what callbacks have before them, which segments they need, what a limit takes
-- from them, and how positions survive a server that is another one. As in functions_reading.sql each
-- function carries the planner settings that its queries need, because the outbox has no statistics.
--
-- Unread is, of a callback that is in the middle of a window (seen, ahead]: what is new since `ahead`, found
-- by transaction, and the window's rows above `ahead_id`, found by id. Else what is new since `seen`.

-- How much a callback has before it: counted exactly up to count_limit, but for what lies far ahead in a
-- window under way.
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
  base pg_snapshot;
  in_window record;
begin
  select * into callback from @schema@.callback where name = callback_name;
  base := coalesce(callback.ahead, callback.seen);
  select * into in_window from @schema@.pending_in_window(callback.seen, callback.ahead, callback.ahead_id, count_limit);
  return query
    select least(count(*) + in_window.counted, count_limit::bigint), coalesce(in_window.first_id, min(id)),
      least(in_window.oldest, min(at))
    from (
      (select id, at from @schema@.logged(false) where xid >= pg_snapshot_xmax(base) order by xid limit count_limit)
      union all
      (select id, at from @schema@.logged(false) where xid = any (array(select pg_snapshot_xip(base))) limit count_limit)
    ) as fresh;
end
$$;

-- Of a window under way: the first slice of ids above `after` that holds unread rows.
create or replace function @schema@.pending_in_window(
    seen pg_snapshot, ahead pg_snapshot, after bigint, count_limit integer)
  returns table (counted bigint, first_id bigint, oldest timestamptz)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  last_id bigint := (select last_value from @schema@.outbox_id);
  from_id bigint := after;
  width bigint := count_limit;
begin
  counted := 0;
  while ahead is not null and counted = 0 and from_id < last_id loop
    select count(*), min(id), min(at) into counted, first_id, oldest
    from @schema@.logged(false)
    where row_id > from_id and row_id <= from_id + width + 127
      and id > from_id and id <= from_id + width
      and pg_visible_in_snapshot(xid, ahead)
      and not pg_visible_in_snapshot(xid, seen);
    from_id := from_id + width;
    width := least(width * 4, 1000000);
  end loop;
  return next;
end
$$;

-- Whether some callback has not got every row of a segment, or a replay has not.
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
  base pg_snapshot;
begin
  for callback in select * from @schema@.callback loop
    base := coalesce(callback.ahead, callback.seen);
    if exists (
      select from @schema@.outbox
      where segment = segment_number and xid >= pg_snapshot_xmax(base)
    ) or exists (
      select from @schema@.outbox
      where segment = segment_number and xid = any (array(select pg_snapshot_xip(base)))
    ) or callback.ahead is not null and exists (
      select from @schema@.outbox
      where segment = segment_number and id > callback.ahead_id
        and pg_visible_in_snapshot(xid, callback.ahead) and not pg_visible_in_snapshot(xid, callback.seen)
    ) then
      return true;
    end if;
  end loop;
  return exists (
    select from @schema@.replay
    where finished_at is null and exists (
      select from @schema@.outbox where segment = segment_number and id > replay.read_id and id <= replay.until_id + 127));
end
$$;

-- What each callback would lose with a segment, and the snapshot it was counted in. Reads the whole segment,
-- because most of it is unread when it comes to this.
create or replace function @schema@.unread_in_segment(segment_number smallint, count_limit integer)
  returns table (callback text, events bigint, first_at timestamptz, last_at timestamptz, counted_in pg_snapshot)
  language sql
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
  select callback.name,
    case when unread.counted < count_limit then unread.counted
      else greatest(count_limit, span.last_id - greatest(span.first_id, coalesce(callback.ahead_id + 1, 0)) + 1) end,
    unread.first_at, greatest(unread.last_at, span.last_at), pg_current_snapshot()
  from @schema@.callback
  cross join lateral (
    select count(*) as counted, min(at) as first_at, max(at) as last_at
    from (
      select at from @schema@.logged(false)
      where segment = segment_number
        and not pg_visible_in_snapshot(xid, callback.seen)
        and (callback.ahead is null or id > callback.ahead_id or not pg_visible_in_snapshot(xid, callback.ahead))
      limit count_limit
    ) as lost
  ) as unread
  cross join lateral (
    select min(coalesce(ids[1], id)) as first_id, max(id) as last_id, max(at) as last_at
    from @schema@.outbox
    where segment = segment_number and unread.counted = count_limit
  ) as span
$$;

-- Whether a segment holds rows that were not visible in a snapshot.
create or replace function @schema@.segment_has_grown(segment_number smallint, since pg_snapshot)
  returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_custom_plan
as $$
begin
  return exists (
    select from @schema@.outbox where segment = segment_number and xid >= pg_snapshot_xmax(since)
  ) or exists (
    select from @schema@.outbox where segment = segment_number and xid = any (array(select pg_snapshot_xip(since)))
  );
end
$$;

-- Changes that statistics know of in the tables with our triggers.
create or replace function @schema@.captured_changes() returns bigint
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint
  from pg_stat_all_tables
  where relid in (
    select tgrelid from pg_trigger join pg_proc on pg_proc.oid = tgfoid
    where pronamespace = @schema_name@::regnamespace)
$$;

-- Tells `loss` of changes that could not be captured since the last look, those of an hour in one row. Null:
-- there are none.
create or replace function @schema@.tell_skipped() returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  skipped bigint := pg_sequence_last_value('@schema@.skipped_changes'::regclass);
begin
  if not exists (select from @schema@.installation where skipped_told < skipped) then
    return null;
  end if;
  perform from @schema@.installation for update; -- one at a time
  select skipped - skipped_told into skipped from @schema@.installation where skipped_told < skipped;
  if skipped is null then
    return null;
  end if;
  update @schema@.installation set skipped_told = skipped_told + skipped;
  update @schema@.loss set events = events + skipped, ended_at = clock_timestamp()
  where kind = 'Skipped' and started_at > clock_timestamp() - interval '1 hour';
  if not found then
    delete from @schema@.loss where at < now() - interval '30 days' and ended_at is not null;
    insert into @schema@.loss (kind, events, started_at, ended_at)
    values ('Skipped', skipped, clock_timestamp(), clock_timestamp());
  end if;
  return skipped;
end
$$;

-- Writes what each checkpoint changes, the table of callbacks, anew: while a transaction somewhere holds the
-- xmin horizon vacuum can take nothing away, and looking up a row means walking past all its old versions.
-- A dump that took its snapshot before would find the table empty, so there must be none.
create or replace function @schema@.compact_callbacks() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  kept @schema@.callback[];
begin
  lock table @schema@.callback in access exclusive mode;
  kept := array(select callback from @schema@.callback);
  truncate @schema@.callback;
  insert into @schema@.callback select (one).* from unnest(kept) as one;
  if exists (
    select from pg_stat_activity where datname = current_database() and application_name = 'pg_dump'
  ) then
    raise exception using errcode = 'lock_not_available', message = 'a dump is under way';
  end if;
end
$$;

-- Which server this is, and since when it goes on without a break: null until follow_server has looked at it.
create or replace function @schema@.current_life() returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select token || ' ' || extract(epoch from pg_postmaster_start_time()) from @schema@.life
$$;

-- Begins a new life after a break. Where transaction ids have begun anew, because the database was copied to
-- another server as rows (a dump, logical replication), positions are made to fit again; true then.
create or replace function @schema@.follow_server() returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from @schema@.life) then
    insert into @schema@.life default values on conflict do nothing;
  end if;
  if not @schema@.is_from_elsewhere() then
    return false;
  end if;
  perform from @schema@.installation for update; -- one at a time
  if not @schema@.is_from_elsewhere() then
    return false;
  end if;
  perform @schema@.renew_positions();
  return true;
end
$$;

-- A row or a position lies in this server's future, or the rows are ahead of the sequence of their ids.
create or replace function @schema@.is_from_elsewhere() returns boolean
  language sql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
as $$
  select exists (
    select from (select id, xid from @schema@.outbox order by xid desc limit 1) as newest
    where xid >= pg_snapshot_xmax(pg_current_snapshot()) or id > (select last_value from @schema@.outbox_id)
  ) or exists (
    select from @schema@.callback
    where pg_snapshot_xmax(coalesce(ahead, seen)) > pg_snapshot_xmax(pg_current_snapshot())
  )
$$;

-- Rows and positions of another server: what a callback surely has by its old position stays done, by id;
-- everything above is unread, and so delivered again at the worst. Ids above `last_foreign` may belong to
-- rows that this server wrote. Rows get ids of transactions that are over here, one for those of one
-- transaction: an id in the future would be new at every read.
create or replace function @schema@.renew_positions() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  here pg_snapshot := pg_current_snapshot();
  range bigint := pg_snapshot_xmin(here)::text::bigint - 3;
  last_id bigint := (select coalesce(max(id), 0) from @schema@.outbox);
  last_foreign bigint := (select coalesce(max(id), 0) from @schema@.outbox where xid >= pg_snapshot_xmax(here));
begin
  lock table @schema@.callback in share row exclusive mode;
  delete from @schema@.lease; -- their positions are at or after the callback's own
  delete from @schema@.agreed_window;
  if last_id > (select last_value from @schema@.outbox_id) then
    last_foreign := 0; -- the sequence was not copied: ids do not tell who wrote a row
    perform setval('@schema@.outbox_id', last_id);
  end if;
  update @schema@.callback
  set seen = '3:3:', ahead = pg_current_snapshot(), passed = null, holder = null,
    ahead_id = (
      select coalesce(min(id) - 1, last_foreign)
      from @schema@.logged(false)
      where id <= last_foreign
        and not pg_visible_in_snapshot(xid, callback.seen)
        and (callback.ahead is null or id > callback.ahead_id or not pg_visible_in_snapshot(xid, callback.ahead)));
  update @schema@.replay set seen = here, ahead = null, ahead_id = null, from_position = null where finished_at is null;
  update @schema@.outbox
  set xid = (3 + xid::text::numeric % range)::text::xid8
  where xid >= pg_snapshot_xmin(here);
end
$$;
