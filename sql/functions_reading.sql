-- How the outbox is read. Functions, because only they can carry the planner settings that each query
-- needs through every kind of connection pooler: the outbox has no statistics (it is never analyzed),
-- and a plan that reads a whole segment for a few new rows must not happen.
--
-- `lanes`: only events that concern one of these lanes, and of which lane they are; null for all events,
-- without their lanes. An update of the key concerns two lanes, a Truncate and a change of a table all.
--
-- Keys are null where the reader can take them from the images (src/core/delivery/row-key.ts), which is cheaper.
-- Of an event that shares its row of the outbox the images are left out; the reader takes such rows whole.

-- event_key, of a row that functions on json can read.
create or replace function @schema@.key_of(about text, image text) returns text
  language sql immutable parallel safe
as $$
  select case json_array_length(about::json -> 'key')
    when 0 then null
    when 1 then '[' || (image::json -> (about::json #>> '{key,0}'))::text || ']'
    else (
      select case when count(*) = count(image::json -> name) then '[' || string_agg((image::json -> name)::text, ',' order by position) || ']' end
      from json_array_elements_text(about::json -> 'key') with ordinality as key_column (name, position)) end
$$;

-- The key of a row as JSON array text; null when the table has no key, or a key column was renamed or dropped
-- after the build: a write must not fail for that.
create or replace function @schema@.event_key(about text, image text) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select case when strpos(image, chr(92) || 'u') > 0
    then @schema@.unguard_escapes(@schema@.key_of(@schema@.guard_escapes(about), @schema@.guard_escapes(image)))
    else @schema@.key_of(about, image) end
$$;

-- A text as it is; where UTF-8 has no form for it, after a mark (chr(30)) its ASCII characters, and ? for the others.
create or replace function @schema@.readable(value text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform convert_to(value, 'UTF8');
  return value;
exception when untranslatable_character or character_not_in_repertoire then
  return chr(30) || regexp_replace(value, '[^\x01-\x7f]', '?', 'g');
end
$$;

-- The circumstances of a change as JSON.
create or replace function @schema@.event_context(role text, application text, context text) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select case when role is null then '{}'
    else concat('{"session_user" : ', to_json(role), ', "application_name" : ', to_json(application),
      case when context is null then '}' else ', ' || substr(context, 2) end) end
$$;

-- The outbox as events: for people, and where speed does not matter. A function that the planner takes for its
-- query, and not a view: the Python package pg_events, which may be beside us, fails at views. row_id: see `logged`.
create or replace function @schema@.change_events()
  returns table (
    id bigint, xid xid8, at timestamptz, segment smallint, operation "char", schema_name text, table_name text,
    key text, old_key text, old text, new text, context text, schema_version text, row_id bigint)
  language sql stable
as $$
  select id, xid, at, segment, operation, schema_name, table_name,
    key, nullif(old_key, key),
    coalesce(old, @schema@.image_at(old_columns, place)),
    coalesce(new, @schema@.image_at(new_columns, place)),
    @schema@.event_context(role, application, context), about::json ->> 'version', row_id
  from @schema@.logged(true)
$$;

-- What became visible since the snapshot `seen`, lowest ids first, with the snapshot of this read in
-- every row. One row of nulls beside the snapshot when there is nothing. A single statement, so that
-- rows and snapshot belong together. Row images over deferred_bytes are left out. With `ahead`: only what
-- that snapshot sees.
create or replace function @schema@.read_fresh(
    seen pg_snapshot, row_limit integer, deferred_bytes integer, ahead pg_snapshot default null, lanes bigint default null)
  returns table (
    snapshot text, id bigint, xid xid8, at json, operation "char", schema_name text, table_name text,
    key text, old_key text, old text, new text, role text, application text, context text, bytes integer, about text, place integer, packed_in text, lane integer, old_lane integer)
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
      fresh.schema_name, fresh.table_name,
      case when lanes is not null then fresh.key
        when fresh.bytes > deferred_bytes then @schema@.key_at(fresh.about, coalesce(fresh.new, fresh.old), coalesce(fresh.new_columns, fresh.old_columns), fresh.place) end,
      case when lanes is not null then nullif(fresh.old_key, fresh.key)
        when fresh.operation = 'U' and fresh.bytes > deferred_bytes
        then nullif(@schema@.key_at(fresh.about, fresh.old, fresh.old_columns, fresh.place), @schema@.key_at(fresh.about, fresh.new, fresh.new_columns, fresh.place)) end,
      case when fresh.bytes <= deferred_bytes then fresh.old end,
      case when fresh.bytes <= deferred_bytes then fresh.new end,
      fresh.role, fresh.application, fresh.context, fresh.bytes, fresh.about, fresh.place, case when fresh.place is not null then concat(fresh.row_id, fresh.row_place) end, fresh.lane, fresh.old_lane
    from (select pg_current_snapshot()::text as snapshot) as this
    left join (
      select *
      from (
        select *, case when lanes is not null then @schema@.lane_of(schema_name, table_name, key) end as lane,
          case when lanes is not null and operation = 'U' then @schema@.lane_of(schema_name, table_name, old_key) end as old_lane
        from (
          select *
          from @schema@.logged(lanes is not null)
          where (xid >= first_new or xid = any (running)) and (ahead is null or pg_visible_in_snapshot(xid, ahead))
          offset 0 -- or a key would be taken once for each place that uses it
        ) as keyed
      ) as every
      where @schema@.concerns(lanes, lane, old_lane, operation)
      order by id
      limit row_limit
    ) as fresh on true
    order by fresh.id;
end
$$;

-- The events of the window (seen, ahead] with ids above `after` up to `last`. The conditions on xid
-- are written so that no index serves them: the one on ids has to.
create or replace function @schema@.read_slice(
    seen pg_snapshot, ahead pg_snapshot, after bigint, last bigint, deferred_bytes integer, lanes bigint default null)
  returns table (
    snapshot text, id bigint, xid xid8, at json, operation "char", schema_name text, table_name text,
    key text, old_key text, old text, new text, role text, application text, context text, bytes integer, about text, place integer, packed_in text, lane integer, old_lane integer)
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
      slice.schema_name, slice.table_name,
      case when lanes is not null then slice.key
        when slice.bytes > deferred_bytes then @schema@.key_at(slice.about, coalesce(slice.new, slice.old), coalesce(slice.new_columns, slice.old_columns), slice.place) end,
      case when lanes is not null then nullif(slice.old_key, slice.key)
        when slice.operation = 'U' and slice.bytes > deferred_bytes
        then nullif(@schema@.key_at(slice.about, slice.old, slice.old_columns, slice.place), @schema@.key_at(slice.about, slice.new, slice.new_columns, slice.place)) end,
      case when slice.bytes <= deferred_bytes then slice.old end,
      case when slice.bytes <= deferred_bytes then slice.new end,
      slice.role, slice.application, slice.context, slice.bytes, slice.about, slice.place, case when slice.place is not null then concat(slice.row_id, slice.row_place) end, slice.lane, slice.old_lane
    from (
      select *,
        case when lanes is not null then @schema@.lane_of(schema_name, table_name, key) end as lane,
        case when lanes is not null and operation = 'U' then @schema@.lane_of(schema_name, table_name, old_key) end as old_lane
      from (
        select *
        from @schema@.logged(lanes is not null)
        where row_id > after and row_id <= last + 127
          and id > after and id <= last
          and pg_visible_in_snapshot(xid, ahead)
          and not pg_visible_in_snapshot(xid, seen)
        offset 0 -- as above
      ) as keyed
    ) as slice
    where @schema@.concerns(lanes, slice.lane, slice.old_lane, slice.operation)
    order by slice.id;
end
$$;

-- Brings the block ranges of the id index up to date, without which a slice would read whole segments.
-- Only the owner of an index may, and a worker may be another role.
create or replace function @schema@.prepare_slices() returns void
  language sql security definer
  set search_path = pg_catalog, pg_temp
as $$
  select brin_summarize_new_values(indexrelid)
  from pg_index
  join pg_inherits on inhrelid = indrelid
  join pg_class on pg_class.oid = indexrelid
  where inhparent = '@schema@.outbox'::regclass
    and relam = (select oid from pg_am where amname = 'brin')
$$;
