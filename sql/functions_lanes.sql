-- Lanes, the windows their holders agree on, and parked events.

-- The lane of a row: the same hash that hash partitioning relies on, so that it stays what it is when the
-- server is upgraded.
create or replace function @schema@.lane_of(schema_name text, table_name text, key text) returns integer
  language sql immutable parallel safe
as $$
  select (hashtextextended((schema_name || '.' || table_name || coalesce(key, '')) collate "C", 0) & 31)::integer
$$;

-- Whether an event of these lanes concerns one of `lanes`.
create or replace function @schema@.concerns(lanes bigint, lane integer, old_lane integer, operation "char") returns boolean
  language sql immutable parallel safe
as $$
  select lanes is null or operation in ('T', 'S') or (lanes >> lane) & 1 = 1 or (lanes >> coalesce(old_lane, lane)) & 1 = 1
$$;

-- Where the window ends that begins at `window_start`: what another holder said before, or now. Null when nothing
-- has been written since.
create or replace function @schema@.agree_window(callback_name text, window_start pg_snapshot) returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set plan_cache_mode = force_generic_plan
as $$
declare
  agreed text;
  running xid8[] := array(select pg_snapshot_xip(window_start));
begin
  select ahead into agreed from @schema@.agreed_window where callback = callback_name and seen = window_start::text;
  if agreed is not null then
    return agreed;
  end if;
  if not exists (select from @schema@.outbox where xid >= pg_snapshot_xmax(window_start))
    and not exists (select from @schema@.outbox where xid = any (running)) then
    return null;
  end if;
  -- In the snapshot of this statement, which has what was just seen: an end at the beginning would be no way on.
  insert into @schema@.agreed_window (callback, seen, ahead)
  values (callback_name, window_start::text, pg_current_snapshot()::text)
  on conflict do nothing;
  select ahead into agreed from @schema@.agreed_window where callback = callback_name and seen = window_start::text;
  return agreed;
end
$$;

-- Whether all these leases are held under these terms; they are then, until the transaction ends. Part 0 is the
-- callback as a whole.
create or replace function @schema@.leases_are_held(callback_name text, parts integer[], terms bigint[]) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if parts = '{0}' then
    perform from @schema@.callback where name = callback_name and term = terms[1] and holder is not null for share;
    return found;
  end if;
  return (
    select count(*) = cardinality(parts)
    from (
      select from @schema@.lease
      join unnest(parts, terms) as wanted (part, term) using (part, term)
      where callback = callback_name and holder is not null
      order by part
      for share of lease
    ) as held
  );
end
$$;

-- Notes what is done beyond the position, if the leases are held, in this life of the server.
create or replace function @schema@.note_beyond(
    callback_name text, parts integer[], terms bigint[], in_life text, ids bigint[]) returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if in_life is distinct from @schema@.current_life() or not @schema@.leases_are_held(callback_name, parts, terms) then
    return false;
  end if;
  if parts = '{0}' then
    update @schema@.callback set passed = ids where name = callback_name;
  else
    update @schema@.lease set passed = ids where callback = callback_name and part = any (parts);
  end if;
  return true;
end
$$;

-- Parks events of the outbox, if the leases are held; returns the ids of those that are parked now. Null when the
-- leases are lost.
create or replace function @schema@.park_events(
    callback_name text, parts integer[], terms bigint[], xids xid8[], ids bigint[], attempts integer[], errors text[])
  returns bigint[]
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
declare
  stored bigint[];
begin
  if not @schema@.leases_are_held(callback_name, parts, terms) then
    return null;
  end if;
  with stored_now as (
    insert into @schema@.parked as parked (
      callback, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
      attempts, error)
    select callback_name, id, xid, at, operation, schema_name, table_name, key, old_key, old, new, context, schema_version,
      wanted.attempts, wanted.error
    from unnest(xids, ids, attempts, errors) as wanted (xid, id, attempts, error)
    join @schema@.change_events() using (xid, id)
    on conflict (callback, id, letter_of) do update set attempts = excluded.attempts
    returning parked.id
  )
  select coalesce(array_agg(id), '{}') into stored from stored_now;
  return stored;
end
$$;

-- Whether a worker that said so is alive: its time is not over, and its session, if it named one, is there.
create or replace function @schema@.is_alive(expires_at timestamptz, session_pid integer, session_started timestamptz)
  returns boolean
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(expires_at > clock_timestamp() and (session_pid is null or exists (
    select from pg_stat_activity where pid = session_pid and backend_start = session_started)), false)
$$;

-- Takes lanes of a part that nobody else holds: all of its lanes, or some, and the rest becomes a part of its own.
-- Part 0 is the callback as a whole. Whether they were taken.
create or replace function @schema@.take_lanes(
    callback_name text, wanted_part integer, wanted_lanes bigint, new_holder text, lease_seconds double precision,
    session_pid integer, session_started timestamptz)
  returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  every_lane constant bigint := 4294967295;
  whole @schema@.callback;
  found_part @schema@.lease;
  ends timestamptz := clock_timestamp() + make_interval(secs => lease_seconds);
begin
  select * into whole from @schema@.callback where name = callback_name for update;
  if wanted_part = 0 then
    if whole.name is null or exists (select from @schema@.lease where callback = callback_name)
      or (whole.holder <> new_holder and @schema@.is_alive(whole.expires_at, whole.holder_pid, whole.holder_started)) then
      return false;
    end if;
    if wanted_lanes = every_lane then
      update @schema@.callback
      set holder = new_holder, term = term + 1, expires_at = ends, holder_pid = session_pid, holder_started = session_started
      where name = callback_name;
      return true;
    end if;
    perform @schema@.cut_callback(callback_name, every_lane & ~wanted_lanes);
    wanted_part := 1;
    wanted_lanes := every_lane & wanted_lanes;
  end if;
  select * into found_part from @schema@.lease where callback = callback_name and part = wanted_part for update;
  if found_part.part is null or found_part.lanes & wanted_lanes <> wanted_lanes
    or (found_part.holder <> new_holder
      and @schema@.is_alive(found_part.expires_at, found_part.holder_pid, found_part.holder_started)) then
    return false;
  end if;
  perform @schema@.cut_part(callback_name, wanted_part, found_part.lanes & ~wanted_lanes);
  update @schema@.lease
  set holder = new_holder, term = term + 1, expires_at = ends, holder_pid = session_pid, holder_started = session_started
  where callback = callback_name and part = wanted_part;
  return true;
end
$$;

-- Makes two parts of a callback that was held as a whole; who held it holds the first one. `cut` lanes make the second.
create or replace function @schema@.cut_callback(callback_name text, cut bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into @schema@.lease (
    callback, part, lanes, seen, ahead, ahead_id, passed, holder, term, expires_at, holder_pid, holder_started)
  select name, 1, 4294967295 & ~cut, seen, ahead, ahead_id, passed, holder, 1, expires_at, holder_pid, holder_started
  from @schema@.callback where name = callback_name
  union all
  select name, 2, cut, seen, ahead, ahead_id, passed, null, 0, null, null, null
  from @schema@.callback where name = callback_name;
  insert into @schema@.agreed_window (callback, seen, ahead) -- both go on in the window that is under way
  select name, seen::text, ahead::text from @schema@.callback where name = callback_name and ahead is not null
  on conflict (callback, seen) do update set ahead = excluded.ahead;
  update @schema@.callback
  set passed = null, holder = null, term = term + 1, expires_at = null, holder_pid = null, holder_started = null
  where name = callback_name;
end
$$;

-- Makes a part that nobody holds of some lanes of another.
create or replace function @schema@.cut_part(callback_name text, cut_from integer, cut bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if cut = 0 then
    return;
  end if;
  insert into @schema@.lease (callback, part, lanes, seen, ahead, ahead_id, passed, stands_before)
  select callback, (select max(part) + 1 from @schema@.lease where callback = callback_name), cut, seen, ahead, ahead_id, passed, stands_before
  from @schema@.lease
  where callback = callback_name and part = cut_from;
  update @schema@.lease set lanes = lanes & ~cut where callback = callback_name and part = cut_from;
end
$$;

-- Gives lanes of a part away that is held under this term, if they are all of this part; its holder has delivered
-- everything up to its position.
create or replace function @schema@.give_lanes(
    callback_name text, given_part integer, held_term bigint, given_lanes bigint) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  whole @schema@.callback;
  found_part @schema@.lease;
begin
  select * into whole from @schema@.callback where name = callback_name for update;
  if given_part = 0 then
    if whole.term = held_term and whole.holder is not null then
      perform @schema@.cut_callback(callback_name, given_lanes);
    end if;
    return;
  end if;
  select * into found_part
  from @schema@.lease
  where callback = callback_name and part = given_part and term = held_term and holder is not null
  for update;
  if found_part.lanes = given_lanes then
    update @schema@.lease
    set holder = null, expires_at = null, holder_pid = null, holder_started = null
    where callback = callback_name and part = given_part;
  elsif found_part.lanes & given_lanes = given_lanes then
    perform @schema@.cut_part(callback_name, given_part, given_lanes);
  end if;
end
$$;

-- Makes one part of several that one worker holds and that are at one position; with all lanes together the
-- callback is held as a whole again.
create or replace function @schema@.merge_parts(callback_name text, parts integer[], terms bigint[]) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  every_lane constant bigint := 4294967295;
  one @schema@.lease;
  joined bigint;
begin
  perform from @schema@.callback where name = callback_name for update;
  if not @schema@.leases_are_held(callback_name, parts, terms) then
    return;
  end if;
  select * into one from @schema@.lease where callback = callback_name and part = parts[1];
  if exists (
    select from @schema@.lease
    where callback = callback_name and part = any (parts)
      and (seen::text, ahead::text, ahead_id, holder) is distinct from (one.seen::text, one.ahead::text, one.ahead_id, one.holder)
  ) then
    return;
  end if;
  select bit_or(lanes) into joined from @schema@.lease where callback = callback_name and part = any (parts);
  delete from @schema@.lease where callback = callback_name and part = any (parts) and (part <> one.part or joined = every_lane);
  if joined = every_lane then
    delete from @schema@.agreed_window where callback = callback_name;
    update @schema@.callback
    set seen = one.seen, ahead = one.ahead, ahead_id = one.ahead_id, passed = one.passed, holder = one.holder, term = term + 1,
      expires_at = one.expires_at, holder_pid = one.holder_pid, holder_started = one.holder_started
    where name = callback_name;
  else
    update @schema@.lease set lanes = joined, stands_before = null where callback = callback_name and part = one.part;
  end if;
end
$$;

-- Forgets the windows that every holder is past.
create or replace function @schema@.forget_windows(callback_name text) returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  delete from @schema@.agreed_window
  where callback = callback_name and number < (
    select min(coalesce(
      (select number from @schema@.agreed_window as its_window
        where its_window.callback = callback_name and its_window.seen = lease.seen::text), 9223372036854775807))
    from @schema@.lease
    where lease.callback = callback_name)
$$;
