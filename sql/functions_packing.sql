-- Several events in one row of the outbox: what makes a statement on many rows cheap (ADR 3). Such a row holds events
-- of one statement whose ids are alike but for their last seven bits, and the values of their rows by column: JSON
-- arrays, the first of the columns' names. json_agg looks up once how a type is written, row_to_json for every value.

-- The statement that writes the rows of the transition tables after the first @single_rows@ to a segment. Its
-- parameters: schema and name of the table, what goes with each event, and the context. It is made when it is needed,
-- so it knows the columns of that moment. An event with a large value gets a row of its own, for reading takes all
-- that is in a row into memory; each value is looked at by itself, because to add them up takes twice as long. Tables
-- with more columns than are worth it, and databases whose characters reading may have to replace (`readable`), have a
-- row for each event here as well.
create or replace function @schema@.packing_statement(table_id oid, operation text, segment bigint) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  old_rows text := '(select * from pgevents_old offset @single_rows@)';
  new_rows text := '(select * from pgevents_new offset @single_rows@)';
  both_rows text := '(select row_number() over () as position, %s from pgevents_old as o) as o %s
    full join (select row_number() over () as position, %s from pgevents_new as n) as n %s using (position)
    where position > @single_rows@';
  with_old boolean := operation <> 'I';
  with_new boolean := operation <> 'D';
  columns record;
begin
  select count(*) as count, quote_literal(json_agg(attname order by place)) as labels,
    string_agg('o' || place, ', ' order by place) as old_names,
    string_agg('n' || place, ', ' order by place) as new_names,
    string_agg(format('json_agg(o%s)', place), ', ' order by place) as old_cells,
    string_agg(format('json_agg(n%s)', place), ', ' order by place) as new_cells,
    string_agg(format(large, 'o' || place, most), ' or ' order by place) as old_large,
    string_agg(format(large, 'n' || place, most), ' or ' order by place) as new_large
  into columns
  from (
    select place, attname, least(@large_value@, @large_row@ / greatest(long_columns, 1)) as most,
      case
        when attlen > 0 then null
        -- As long as the text is, which need not be fetched for that.
        when atttypid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'bytea'::regtype)
          then 'octet_length(%1$s) > %2$s'
        when atttypid = 'numeric'::regtype then 'pg_column_size(%1$s) > %2$s'
        -- How long a compressed one is nobody knows.
        else '(pg_column_size(%1$s) > %2$s or pg_column_compression(%1$s) is not null)'
      end as large
    from (
      select *, row_number() over (order by attnum) as place, count(*) filter (where attlen < 0) over () as long_columns
      from pg_attribute
      where attrelid = table_id and attnum > 0 and not attisdropped
    ) as attribute
  ) as described;
  if columns.count between 1 and 100 and getdatabaseencoding() = 'UTF8' then
    return concat(
      'insert into @schema@.outbox_', segment,
      ' (id, ids, operation, schema_name, table_name, about, old_columns, new_columns, context)
      select max(id), array_agg(id), ', quote_literal(operation), ', $1, $2, $3, ',
      case when with_old then format('array[%s::json, %s]', columns.labels, columns.old_cells) else 'null' end, ', ',
      case when with_new then format('array[%s::json, %s]', columns.labels, columns.new_cells) else 'null' end, ', $4
      from (
        select nextval(''@schema@.outbox_id'') as id, ',
        concat_ws(' or ', 'false', case when with_old then columns.old_large end, case when with_new then columns.new_large end),
        ' as large, ',
        concat_ws(', ', case when with_old then columns.old_names end, case when with_new then columns.new_names end), ' from ',
        case
          when not with_old then format('%s as n (%s)', new_rows, columns.new_names)
          when not with_new then format('%s as o (%s)', old_rows, columns.old_names)
          else format(both_rows, 'o.*', format('(position, %s)', columns.old_names), 'n.*', format('(position, %s)', columns.new_names))
        end, '
      ) as one
      group by case when large then -id else id >> 7 end
      order by max(id)');
  end if;
  return concat(
    'insert into @schema@.outbox_', segment, ' (operation, schema_name, table_name, about, old, new, context)
    select ', quote_literal(operation), ', $1, $2, $3, ',
    case when not with_old then 'null' when with_new then 'row_to_json(o.image)' else 'row_to_json(o.*)' end, ', ',
    case when not with_new then 'null' when with_old then 'row_to_json(n.image)' else 'row_to_json(n.*)' end, ', $4 from ',
    case
      when not with_old then new_rows || ' as n'
      when not with_new then old_rows || ' as o'
      else format(both_rows, 'coalesce(o.*) as image', '', 'coalesce(n.*) as image', '')
    end);
end
$$;

-- The memory (`work_mem`) that packing takes before it writes to disk: what the writer may use, or more, as the server's
-- buffers allow. PostgreSQL reckons with 8 kB for each array that grows, which is three times what it takes, so that
-- 64 MB (and hash_mem_multiplier 2) are enough for 140,000 rows of twelve columns, which then take 40 MB.
create or replace function @schema@.packing_memory(work_mem text) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select greatest(pg_size_bytes(work_mem), least(pg_size_bytes(current_setting('shared_buffers')) / 4, 64 * 1024 * 1024)) / 1024 || 'kB'
$$;

-- The row image that stands at a place of the arrays, from 1.
create or replace function @schema@.image_at(columns json[], place integer) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select '{' || string_agg(
    (columns[1] -> number - 2)::text || ':' || @schema@.unguard_escapes((@schema@.guard_escapes(columns[number]::text)::json -> place - 1)::text),
    ',' order by number) || '}'
  from generate_subscripts(columns, 1) as number
  where number > 1
$$;

-- event_key for each place of the arrays; null where there is no key.
create or replace function @schema@.event_keys(about text, columns json[]) returns text[]
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select array_agg('[' || @schema@.unguard_escapes(cells) || ']' order by place)
  from (
    select place, string_agg(cell::text, ',' order by position) as cells
    from json_array_elements_text(about::json -> 'key') with ordinality as key_column (name, position)
    join json_array_elements_text(columns[1]) with ordinality as label (name, number) using (name)
    cross join json_array_elements(@schema@.guard_escapes(columns[number + 1]::text)::json) with ordinality as cells (cell, place)
    group by place
    having count(*) = json_array_length(about::json -> 'key')
  ) as keys
$$;

-- event_key of an image, or of what stands at a place of the arrays.
create or replace function @schema@.key_at(about text, image text, columns json[], place integer) returns text
  language sql immutable parallel safe
as $$
  select case when place is null then @schema@.event_key(about, image) else (@schema@.event_keys(about, columns))[place] end
$$;

-- The outbox by events. `row_id`: the id of the row that holds it, at most 127 above its own, for conditions that an
-- index has to serve. place: where in the arrays of `old_columns` and `new_columns`; null: the images are `old` and `new`.
-- bytes: of the images. The planner takes it for its query.
create or replace function @schema@.logged(keyed boolean)
  returns table (
    row_id bigint, row_place tid, id bigint, place integer, xid xid8, at timestamptz, segment smallint, operation "char",
    schema_name text, table_name text, about text, old text, new text, old_columns json[], new_columns json[], bytes integer,
    role text, application text, context text, key text, old_key text)
  language sql stable
as $$
  select id, row_place, coalesce(ids[part], id), case when ids is not null then part end, xid, at, segment, operation,
    schema_name, table_name, about, old, new, old_columns, new_columns,
    case when ids is null then coalesce(octet_length(old), 0) + coalesce(octet_length(new), 0)
      else (coalesce(pg_column_size(old_columns), 0) + coalesce(pg_column_size(new_columns), 0)) / cardinality(ids) end,
    role, application, context,
    case when not keyed then null
      when ids is null then @schema@.event_key(about, coalesce(new, old))
      else keys[part] end,
    case when not keyed or operation <> 'U' then null
      when ids is null then @schema@.event_key(about, old)
      else old_keys[part] end
  from (
    select outbox.*, outbox.ctid as row_place, keys, old_keys, generate_series(1, coalesce(cardinality(ids), 1)) as part
    from @schema@.outbox
    left join lateral (
      select @schema@.event_keys(about, coalesce(new_columns, old_columns)) as keys,
        case operation when 'U' then @schema@.event_keys(about, old_columns) end as old_keys
      where keyed and ids is not null
      offset 0 -- once for all events of a row
    ) as packed on true
  ) as parts
$$;
