-- What triggers of the user write while a statement is under way comes after what the statement itself did. Our
-- triggers are called first, row by row, so all is in order but for one case: a statement of several rows, of which
-- the user's trigger for one writes another. Only then ids are given anew, at the end of the statement. ADR 9.
--
-- What has to be remembered is in settings that end with the transaction, one for each table and depth of nested
-- triggers, because savepoints take them back as well: nothing, `open` once a row was told of, or the last id
-- before the first nested event. Whoever sets one by hand changes the order of his own transaction's events.

-- At which depth the trigger that calls this is: names of what has to be remembered end with it.
create or replace function @schema@.statement_setting(of_schema text, of_table text) returns text
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  select @order_prefix@ || replace(hashtextextended(of_schema || '.' || of_table, 0)::text, '-', 'm') || '_'
$$;

-- For each row, before it is told of. Returns what its event is marked by, so that the end of the statement finds it:
-- spaces before `about`, as many as the depth, once there were nested events; else nothing.
create or replace function @schema@.begin_row(of_schema text, of_table text) returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  setting text := @schema@.statement_setting(of_schema, of_table);
  depth integer := pg_trigger_depth();
  state text := current_setting(setting || depth, true);
begin
  if coalesce(state, '') <> '' then
    return case state when 'open' then '' else repeat(' ', depth) end;
  end if;
  perform set_config(setting || depth, 'open', true);
  for outer_depth in 1 .. depth - 1 loop
    if current_setting(setting || outer_depth, true) = 'open' then
      perform set_config(setting || outer_depth, coalesce(pg_sequence_last_value('@schema@.outbox_id'::regclass), 0)::text, true);
    end if;
  end loop;
  return '';
end
$$;

-- Arguments: schema and name of the table as it is captured.
create or replace function @schema@.end_statement() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  depth integer := pg_trigger_depth();
  setting text := @schema@.statement_setting(tg_argv[0], tg_argv[1]) || depth;
  state text := current_setting(setting, true);
begin
  if coalesce(state, '') = '' then
    return null;
  end if;
  perform set_config(setting, '', true);
  if state ~ '^\d{1,18}$' then
    perform @schema@.move_nested(tg_argv[0], tg_argv[1], state::bigint, depth);
  end if;
  return null;
end
$$;

-- Gives this transaction's events of a table after an id new ids, but for those that are marked.
create or replace function @schema@.move_nested(of_schema text, of_table text, after bigint, depth integer) returns void
  language sql security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set enable_nestloop = off
as $$
  with nested as materialized (
    select id as old_id, nextval('@schema@.outbox_id') as new_id
    from (
      select id from @schema@.outbox
      where xid = pg_current_xact_id() and id > after and schema_name = of_schema and table_name = of_table
        and starts_with(about, repeat(' ', depth) || '{') is not true
      order by id
    ) as in_order
  )
  update @schema@.outbox set id = new_id
  from nested
  where xid = pg_current_xact_id() and id = old_id
$$;
