-- Events that are delivered again (ADR 10). As in functions_reading.sql each function carries the planner settings
-- that its queries need.

-- Whether a callback's filter lets an event through, its expression left out: the twin of eventFilter
-- (src/core/delivery/filter.ts). `wanted`: {"tables": [[schema, name], ...] or null, "operations": "IUDT" or null,
-- "schemaChanges": "Include", "Exclude" or "Only"}; null: every event.
create or replace function @schema@.is_wanted(wanted json, operation "char", schema_name text, table_name text)
  returns boolean
  language sql immutable parallel safe
as $$
  select wanted is null or (
    case when operation = 'S' then wanted ->> 'schemaChanges' is distinct from 'Exclude'
      else wanted ->> 'schemaChanges' is distinct from 'Only'
        and (wanted ->> 'operations' is null or strpos(wanted ->> 'operations', operation::text) > 0) end
    and (wanted ->> 'tables' is null or exists (
      select from json_array_elements(wanted -> 'tables') as one
      where one ->> 0 = schema_name and one ->> 1 in ('*', table_name))))
$$;

-- Whether a replay is about an event of the outbox. It must be one that the callback had: the others come anyway.
create or replace function @schema@.is_replayed(
    one @schema@.replay, id bigint, xid xid8, at timestamptz, operation "char", schema_name text, table_name text)
  returns boolean
  language sql immutable parallel safe
as $$
  select (pg_visible_in_snapshot(xid, one.seen)
      or one.ahead is not null and id <= one.ahead_id and pg_visible_in_snapshot(xid, one.ahead))
    and (one.since is null or at >= one.since)
    and (one.until is null or at < one.until)
    and (one.from_position is null or not pg_visible_in_snapshot(xid, one.from_position))
    and (one.tables is null or operation <> 'S' and exists (
      select from json_array_elements(one.tables) as wanted
      where wanted ->> 0 = schema_name and wanted ->> 1 in ('*', table_name)))
$$;

-- Lays events of a callback's oldest replay ready to be delivered, while fewer than `room` lie there. What concerns
-- more than one row (Truncate, a change of a table, an update of the key) goes when all before it is done, and
-- alone: the rows may be in the hands of several workers. Whoever calls it, one at a time does it. Whether there
-- is a replay.
create or replace function @schema@.feed_replay(callback_name text, wanted json, room integer) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  one @schema@.replay;
  lying bigint;
  width bigint := 1000;
  found_events bigint;
  up_to bigint;
  alone_id bigint;
  last_id bigint;
begin
  select * into one from @schema@.replay
  where callback = callback_name and finished_at is null
  order by id limit 1
  for update skip locked;
  if one.id is null then
    return false;
  end if;
  select count(*) into lying from @schema@.parked where callback = callback_name and replay = one.id;
  if one.read_id >= one.until_id then
    if lying = 0 then
      update @schema@.replay set finished_at = clock_timestamp() where id = one.id;
    end if;
    return true;
  end if;
  if lying >= room or exists (
    select from @schema@.parked
    where callback = callback_name and replay = one.id and (operation in ('T', 'S') or old_key is not null)
  ) then
    return true;
  end if;
  if one.read_id < one.from_id then
    perform @schema@.prepare_slices();
  end if;
  found_events := 0;
  while found_events = 0 and one.read_id < one.until_id loop
    up_to := least(one.read_id + width, one.until_id);
    width := least(width * 4, 1000000);
    -- How far to go: not beyond the room, and up to what has to go alone.
    select min(slice.id) filter (where alone), max(slice.id) filter (where place = room - lying), count(*)
    into alone_id, last_id, found_events
    from (
      select id, row_number() over (order by id) as place,
        operation in ('T', 'S') or operation = 'U' and old_key is distinct from key as alone
      from @schema@.logged(true)
      where row_id > one.read_id and row_id <= up_to + 127 and id > one.read_id and id <= up_to
        and @schema@.is_replayed(one, id, xid, at, operation, schema_name, table_name)
        and @schema@.is_wanted(wanted, operation, schema_name, table_name)
    ) as slice;
    up_to := coalesce(last_id, up_to);
    if alone_id <= up_to then
      up_to := alone_id - 1;
      if not exists (
        select from @schema@.logged(false)
        where row_id > one.read_id and row_id <= up_to + 127 and id > one.read_id and id <= up_to
          and @schema@.is_replayed(one, id, xid, at, operation, schema_name, table_name)
          and @schema@.is_wanted(wanted, operation, schema_name, table_name)
      ) then
        if lying > 0 then
          exit; -- its turn has not come
        end if;
        up_to := alone_id;
      end if;
    end if;
    with laid as (
      insert into @schema@.parked (
        callback, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
        attempts, replay, taken)
      select callback_name, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
        0, one.id, false
      from @schema@.change_events()
      where row_id > one.read_id and row_id <= up_to + 127 and id > one.read_id and id <= up_to
        and @schema@.is_replayed(one, id, xid, at, operation, schema_name, table_name)
        and @schema@.is_wanted(wanted, operation, schema_name, table_name)
      on conflict do nothing -- it is on its way already
      returning 1
    )
    update @schema@.replay set read_id = up_to, events = events + (select count(*) from laid) where id = one.id;
    one.read_id := up_to;
  end loop;
  return true;
end
$$;

-- How many events a replay would bring: counted up to count_limit, the expression of the callback's filter left out.
create or replace function @schema@.count_replay(one @schema@.replay, wanted json, count_limit integer) returns bigint
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_custom_plan
as $$
begin
  return (
    select count(*) from (
      select from @schema@.logged(false)
      where row_id >= one.from_id and row_id <= one.until_id + 127 and id >= one.from_id and id <= one.until_id
        and @schema@.is_replayed(one, id, xid, at, operation, schema_name, table_name)
        and @schema@.is_wanted(wanted, operation, schema_name, table_name)
      limit count_limit
    ) as counted);
end
$$;

-- Takes events that lie ready for these lanes into the hands of their holder, the oldest first. Nothing when the
-- leases are lost.
create or replace function @schema@.take_parked(
    callback_name text, parts integer[], terms bigint[], lanes bigint, row_limit integer)
  returns setof @schema@.parked
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
begin
  if not exists (select from @schema@.parked where callback = callback_name and not taken)
    or not @schema@.leases_are_held(callback_name, parts, terms) then
    return;
  end if;
  return query
    update @schema@.parked set taken = true
    where (callback, id, letter_of) in (
      select callback, id, letter_of from @schema@.parked
      where callback = callback_name and not taken
        and (lanes >> @schema@.lane_of(schema_name, table_name, key)) & 1 = 1
      order by id, letter_of
      limit row_limit)
    returning parked.*;
end
$$;

-- Forgets parked events that are done, with the dead letters that they were. `letters`: their letter_of.
create or replace function @schema@.forget_parked(callback_name text, ids bigint[], letters text[]) returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  delete from @schema@.parked
  using unnest(ids, letters) as done (done_id, done_letter)
  where callback = callback_name and id = done_id and letter_of = done_letter;
  delete from @schema@.dead_letter
  using unnest(ids, letters) as done (done_id, done_letter)
  where id = done_id
    and (callback = callback_name and letter_of = done_letter
      or done_letter <> '' and callback = regexp_replace(done_letter, '^.*/', '')
        and letter_of = case when strpos(done_letter, '/') > 0 then regexp_replace(done_letter, '/[^/]*$', '') else '' end);
$$;

-- Lays dead letters ready to be delivered again to the callback that refused them. Returns how many.
create or replace function @schema@.redeliver(callback_name text, ids bigint[], letters text[]) returns bigint
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  with letter as (
    delete from @schema@.dead_letter
    using unnest(ids, letters) as wanted (wanted_id, wanted_letter)
    where callback = callback_name and id = wanted_id and letter_of = wanted_letter
    returning dead_letter.*
  ), laid as (
    insert into @schema@.parked (
      callback, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
      attempts, letter_of, letter, replay, taken)
    select callback, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
      0, letter_of, letter, 0, false
    from letter
    on conflict do nothing -- a replay has laid it ready
    returning 1
  )
  select count(*) from letter
$$;
