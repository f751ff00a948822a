-- The trigger functions that capture changes. A build replaces them whenever this file or the functions
-- in the database differ. `@schema@` stands for the quoted schema name, `@channel@` for the literal of
-- the wake-up channel, `@lock@` for the two integers of the wake-up lock and `@context@` for the context of
-- a change as JSON.

-- The key of a row as JSON array text; null when the table has no key, or a key column was renamed
-- or dropped after the build: a write must not fail for that.
create or replace function @schema@.key_of(image json, columns text[]) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select case when count(*) > 0 and count(*) = count(image -> name)
    then '[' || string_agg((image -> name)::text, ',' order by position) || ']' end
  from unnest(columns) with ordinality as key_column (name, position)
$$;

-- What of a row is captured: rule has include or exclude, mask and hash, each a list of columns. strict: a
-- column that is named and missing, because it was renamed say, leaves nothing of the row, so that no value
-- gets out under another name.
create or replace function @schema@.shape_row(image json, rule jsonb) returns json
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case when rule ? 'strict' and exists (
      select from jsonb_each(rule - 'strict') as list (kind, names)
      cross join jsonb_array_elements_text(names) as name
      where image -> name is null)
    then '{}'
    else coalesce((
      select json_object_agg(name, case
          when json_typeof(value) = 'null' then value
          when rule -> 'mask' ? name then '"***"'
          when rule -> 'hash' ? name
            then to_json(encode(sha256(convert_to(hash_salt || (image ->> name), 'UTF8')), 'hex'))
          else value end order by position)
      from json_each(image) with ordinality as field (name, value, position)
      cross join (select hash_salt from @schema@.installation) as installation
      where case when rule ? 'include' then rule -> 'include' ? name else coalesce(not rule -> 'exclude' ? name, true) end
    ), '{}') end
$$;

-- One function an operation, shared by all tables; a trigger passes the shape of its rows, empty for whole
-- ones, and the names of its key columns.
-- Statement-level with transition tables: one call for any number of rows. row_to_json follows
-- columns that come and go without a new build. `offset 0` keeps the planner from evaluating the row
-- image twice; `n.*`, not `n`, because a column may be called n.
--
-- Each ends by waking a sleeping worker. A worker that sleeps holds the lock exclusively; while it
-- is awake the shared lock is granted and nothing is sent, so that the lock which NOTIFY takes at
-- commit is not touched under load.
create or replace function @schema@.capture_insert() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := @context@;
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, new, context)
  select current_segment, 'I', tg_table_schema, tg_table_name,
    case tg_nargs when 2 then '[' || (new_row.image -> tg_argv[1]) || ']'
      else @schema@.key_of(new_row.image, tg_argv[1:]) end,
    new_row.image, transaction_context
  from (select case tg_argv[0] when '' then row_to_json(n.*) else @schema@.shape_row(row_to_json(n.*), tg_argv[0]::jsonb) end as image from pgevents_new as n offset 0) as new_row;
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

-- Pairs old and new rows by their position in the transition tables, which PostgreSQL fills side by
-- side. Nested loops are off because a plan cached for one row would be quadratic for many.
create or replace function @schema@.capture_update() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set enable_nestloop = off
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := @context@;
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, old_key, old, new, context)
  select current_segment, 'U', tg_table_schema, tg_table_name,
    pair.new_key, nullif(pair.old_key, pair.new_key), pair.old_image, pair.new_image, transaction_context
  from (
    select
      old_row.image as old_image, new_row.image as new_image,
      case tg_nargs when 2 then '[' || (old_row.image -> tg_argv[1]) || ']'
        else @schema@.key_of(old_row.image, tg_argv[1:]) end as old_key,
      case tg_nargs when 2 then '[' || (new_row.image -> tg_argv[1]) || ']'
        else @schema@.key_of(new_row.image, tg_argv[1:]) end as new_key
    from (select row_number() over () as position, case tg_argv[0] when '' then row_to_json(o.*) else @schema@.shape_row(row_to_json(o.*), tg_argv[0]::jsonb) end as image from pgevents_old as o) as old_row
    join (select row_number() over () as position, case tg_argv[0] when '' then row_to_json(n.*) else @schema@.shape_row(row_to_json(n.*), tg_argv[0]::jsonb) end as image from pgevents_new as n) as new_row
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

create or replace function @schema@.capture_delete() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  current_segment smallint := (select last_value from @schema@.outbox_segment);
  transaction_context text := @context@;
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, old, context)
  select current_segment, 'D', tg_table_schema, tg_table_name,
    case tg_nargs when 2 then '[' || (old_row.image -> tg_argv[1]) || ']'
      else @schema@.key_of(old_row.image, tg_argv[1:]) end,
    old_row.image, transaction_context
  from (select case tg_argv[0] when '' then row_to_json(o.*) else @schema@.shape_row(row_to_json(o.*), tg_argv[0]::jsonb) end as image from pgevents_old as o offset 0) as old_row;
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

-- Row by row, for partitioned tables and inheritance trees. Arguments: schema and name of the table as it
-- is captured, then as above. The context says which partition the row is in, where that is another.
create or replace function @schema@.capture_row() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  shape text := tg_argv[2];
  key_columns text[] := tg_argv[3:];
  old_image json := case when tg_op <> 'INSERT' then case shape when '' then row_to_json(old) else @schema@.shape_row(row_to_json(old), shape::jsonb) end end;
  new_image json := case when tg_op <> 'DELETE' then case shape when '' then row_to_json(new) else @schema@.shape_row(row_to_json(new), shape::jsonb) end end;
  old_key text := case tg_nargs when 4 then '[' || (old_image -> tg_argv[3]) || ']'
    else @schema@.key_of(old_image, key_columns) end;
  new_key text := case tg_nargs when 4 then '[' || (new_image -> tg_argv[3]) || ']'
    else @schema@.key_of(new_image, key_columns) end;
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, key, old_key, old, new, context)
  select last_value, left(tg_op, 1)::"char", tg_argv[0], tg_argv[1],
    case when tg_op = 'DELETE' then old_key else new_key end,
    case when tg_op = 'UPDATE' then nullif(old_key, new_key) end,
    old_image, new_image,
    case when tg_table_name = tg_argv[1] and tg_table_schema = tg_argv[0] then @context@ else @partition_context@ end
  from @schema@.outbox_segment;
  if not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;

-- Arguments: of a partition, schema and name of the table that it is a part of.
create or replace function @schema@.capture_truncate() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into @schema@.outbox (segment, operation, schema_name, table_name, context)
  select last_value, 'T', tg_table_schema, tg_table_name, case tg_nargs when 0 then @context@ else @root_context@ end
  from @schema@.outbox_segment;
  if not pg_try_advisory_xact_lock_shared(@lock@) then
    perform pg_notify(@channel@, '');
  end if;
  return null;
end
$$;
