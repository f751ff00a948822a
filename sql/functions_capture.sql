-- The trigger functions that capture changes. A build replaces them whenever this file or the functions
-- in the database differ. `@schema@` stands for the quoted schema name, `@lock@` for the two integers of the
-- wake-up lock and `@context@` for what the spec keeps of the circumstances of a change, as JSON or null. What is
-- between `@each_segment@` and
-- `@end@` stands there once for each segment, `@segment@` being its number; between `@each_variant@` and
-- `@end_variant@` once without and once with settings that are fixed.

-- Changes that could not be captured, where the spec lets writes go on then (onError: Skip). A sequence counts,
-- because the count must not depend on what becomes of the transaction. The write goes on even if that fails.
create or replace function @schema@.skip_changes(changes bigint, of_table text, because text, state text) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform nextval('@schema@.skipped_changes') from generate_series(1, changes);
  raise warning 'pg-events: a change of % is not captured: % (SQLSTATE %)', of_table, because, state;
end
$$;

-- Only while the worker sleeps. A transaction that sent NOTIFY cannot be prepared, so where transactions may be
-- prepared the worker looks by itself.
create or replace function @schema@.notify_worker() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('max_prepared_transactions') = '0' then
    perform pg_notify(@channel@, '');
  end if;
end
$$;

-- One function an operation, shared by all tables, and one that also fixes the settings of the writer that the
-- text of some types depends on. A trigger passes what goes with each event of its table.
-- Statement-level with transition tables: one call for any number of rows. row_to_json follows columns that
-- come and go without a new build; `n.*`, not `n`, because a column may be called n.
--
-- Every microsecond here is paid by a writer: the segment is looked up by a plain function, written to by its own
-- name, and the key is taken from the image when the event is read. Of many rows those after the first
-- @single_rows@ are packed (functions_packing.sql). ADR 3 has the figures.
--
-- Each ends by waking a sleeping worker. A worker that sleeps holds the lock exclusively; while it
-- is awake the shared lock is granted and nothing is sent, so that the lock which NOTIFY takes at
-- commit is not touched under load.
@each_variant@
create or replace function @schema@.capture_insert@variant@() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC' @more_settings@
as $$
#variable_conflict use_variable
declare
  open_segment bigint;
  written bigint;
  memory text;
begin
  open_segment := coalesce(pg_sequence_last_value(@segment_sequence@), 0); -- here, where errors are handled
  case open_segment
  @each_segment@ when @segment@ then
    insert into @schema@.outbox_@segment@ (operation, schema_name, table_name, about, new, context)
    select 'I', tg_table_schema, tg_table_name, tg_argv[0], row_to_json(n.*), @context@
    from pgevents_new as n
    limit @single_rows@;
  @end@
  else return null; -- capture is paused
  end case;
  @pack_rest@
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
  return null;
@on_error_new@
end
$$;
@end_variant@

-- Most updates are of one row. Of more, old and new rows are paired by their position in the transition tables,
-- which PostgreSQL fills side by side; a full join, because a plan with a nested loop, made for few rows and
-- kept, would be quadratic for many.
@each_variant@
create or replace function @schema@.capture_update@variant@() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC' @more_settings@
as $$
#variable_conflict use_variable
declare
  open_segment bigint;
  written bigint;
  memory text;
begin
  open_segment := coalesce(pg_sequence_last_value(@segment_sequence@), 0); -- here, where errors are handled
  case open_segment
  @each_segment@ when @segment@ then
    insert into @schema@.outbox_@segment@ (operation, schema_name, table_name, about, old, new, context)
    select 'U', tg_table_schema, tg_table_name, tg_argv[0], old_row.image, new_row.image, @context@
    from (select row_to_json(o.*) as image from pgevents_old as o limit 1) as old_row
    cross join (select row_to_json(n.*) as image from pgevents_new as n limit 1) as new_row
    where not exists (select from pgevents_new offset 1);
    if not found then
      insert into @schema@.outbox_@segment@ (operation, schema_name, table_name, about, old, new, context)
      select 'U', tg_table_schema, tg_table_name, tg_argv[0], row_to_json(old_row.image), row_to_json(new_row.image), @context@
      from (select row_number() over () as position, coalesce(o.*) as image from pgevents_old as o limit @single_rows@) as old_row
      full join (select row_number() over () as position, coalesce(n.*) as image from pgevents_new as n limit @single_rows@) as new_row using (position);
    end if;
  @end@
  else return null; -- capture is paused
  end case;
  @pack_rest@
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
  return null;
@on_error_new@
end
$$;
@end_variant@

@each_variant@
create or replace function @schema@.capture_delete@variant@() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC' @more_settings@
as $$
#variable_conflict use_variable
declare
  open_segment bigint;
  written bigint;
  memory text;
begin
  open_segment := coalesce(pg_sequence_last_value(@segment_sequence@), 0); -- here, where errors are handled
  case open_segment
  @each_segment@ when @segment@ then
    insert into @schema@.outbox_@segment@ (operation, schema_name, table_name, about, old, context)
    select 'D', tg_table_schema, tg_table_name, tg_argv[0], row_to_json(o.*), @context@
    from pgevents_old as o
    limit @single_rows@;
  @end@
  else return null; -- capture is paused
  end case;
  @pack_rest@
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
  return null;
@on_error_old@
end
$$;
@end_variant@

-- Row by row. Arguments: what goes with each event, schema and name of the table as it is captured, the rule, empty
-- for whole rows, and `again` where triggers of the user may write rows again (functions_order.sql). The context says which partition the row is in, where that is another.
create or replace function @schema@.capture_row() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC' @fixed_settings@
as $$
#variable_conflict use_variable
declare
  old_image json;
  new_image json;
  about text := tg_argv[0];
  rule_text text := tg_argv[3];
  rule jsonb;
  key jsonb;
  guarded boolean;
  mark text := '';
begin
  if tg_argv[4] = 'again' then mark := @schema@.begin_row(tg_argv[1], tg_argv[2]); end if;
  if tg_op <> 'INSERT' then old_image := row_to_json(old); end if;
  if tg_op <> 'DELETE' then new_image := row_to_json(new); end if;
  if rule_text <> '' then
    guarded := strpos(concat(old_image, new_image), chr(92) || 'u') > 0;
    if guarded then
      old_image := @schema@.guard_escapes(old_image::text);
      new_image := @schema@.guard_escapes(new_image::text);
      about := @schema@.guard_escapes(about);
      rule_text := @schema@.guard_escapes(rule_text);
    end if;
    rule := rule_text;
    key := about::jsonb -> 'key';
    if tg_op = 'UPDATE' and rule ? 'updateColumns' and not @schema@.changes_any(old_image, new_image, rule -> 'updateColumns') then
      return null;
    end if;
    if rule ?| '{include,exclude,mask,hash}' or rule ->> 'payload' = 'Key' then
      if tg_op <> 'INSERT' then old_image := @schema@.shape_row(old_image, rule, key, guarded); end if;
      if tg_op <> 'DELETE' then new_image := @schema@.shape_row(new_image, rule, key, guarded); end if;
    end if;
    if tg_op = 'UPDATE' and rule ->> 'payload' = 'Changes' then
      -- Both images have the same columns.
      select coalesce(json_object_agg(name, old_value), '{}'), coalesce(json_object_agg(name, new_value), '{}')
      into old_image, new_image
      from rows from (json_each(old_image), json_each(new_image)) as field (name, old_value, same_name, new_value)
      where key ? name or old_value::text is distinct from new_value::text;
    end if;
    if guarded then
      old_image := @schema@.unguard_escapes(old_image::text);
      new_image := @schema@.unguard_escapes(new_image::text);
    end if;
  end if;
  case coalesce(pg_sequence_last_value(@segment_sequence@), 0)
  @each_segment@ when @segment@ then
    insert into @schema@.outbox_@segment@ (operation, schema_name, table_name, about, old, new, context)
    values (left(tg_op, 1)::"char", tg_argv[1], tg_argv[2], mark || tg_argv[0], old_image, new_image,
      case when tg_table_name = tg_argv[2] and tg_table_schema = tg_argv[1] then @context@ else @partition_context@ end);
  @end@
  else return null; -- capture is paused
  end case;
  if not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
  return null;
@on_error@
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
  from @schema@.outbox_segment
  where last_value >= 0; -- not while capture is paused
  if found and not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
  return null;
@on_error@
end
$$;
