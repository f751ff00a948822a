-- Changes of tables as events of the outbox, in the order of the log: by event triggers in the
-- transaction of the command, or by comparison with what was last told. The keys are those of the
-- functions pg_event_trigger_ddl_commands and pg_event_trigger_dropped_objects. What the placeholders
-- stand for: src/core/capture/placeholders.ts.

create or replace function @schema@.tell_schema_change(of_schema text, of_table text, change json, role text, context json)
  returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  insert into @schema@.outbox (segment, operation, schema_name, table_name, new, role, context)
  select last_value, 'S', coalesce(of_schema, ''), coalesce(of_table, ''), change, role, context
  from @schema@.outbox_segment
  where last_value >= 0 -- not while capture is paused
$$;

create or replace function @schema@.wake_worker() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not pg_try_advisory_xact_lock_shared(@lock@) then
    perform @schema@.notify_worker();
  end if;
end
$$;

-- Triggers that a table brought along when it became a partition: its rows are captured with the root's.
create or replace function @schema@.brought_triggers(table_id oid) returns setof name
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select tgname
  from pg_trigger
  join pg_class on pg_class.oid = tgrelid
  join pg_proc on pg_proc.oid = tgfoid
  where tgrelid = table_id and relispartition and tgparentid = 0 and not tgisinternal
    and pronamespace = @schema_name@::regnamespace and proname not in ('capture_truncate', 'end_statement')
$$;

-- Types with a cast to json that must not run with our rights, and what is made of them.
create or replace function @schema@.unsafe_types() returns table (type oid, cast_id oid)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  @unsafe_types@
$$;

-- Takes our triggers from tables with such types.
create or replace function @schema@.release_unsafe_tables() returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
begin
  for found in
    select tgrelid::regclass as on_table, array_agg(distinct tgname) as trigger_names,
      min(format_type(castsource, null)) as type_name, min(castfunc::regprocedure::text) as function_name
    from @schema@.unsafe_types() as unsafe
    join pg_cast on pg_cast.oid = cast_id
    join pg_class on reltype = unsafe.type
    join pg_trigger on tgrelid = pg_class.oid
    join pg_proc on pg_proc.oid = tgfoid
    where pronamespace = @schema_name@::regnamespace and tgparentid = 0 and not tgisinternal
    group by tgrelid
  loop
    execute (select string_agg(format('drop trigger %I on %s', name, found.on_table), '; ') from unnest(found.trigger_names) as name);
    raise warning 'pg-events does not capture % any more', found.on_table
      using detail = format('Values of type %s become json by the function %s, which would run with the rights of pg-events.', found.type_name, found.function_name);
  end loop;
end
$$;

-- Gives a table the triggers that the spec of the last build asks for; those that are right are not
-- touched, because another lock than the command took could make a migration deadlock. What else has to
-- be taken away, the worker does.
create or replace function @schema@.capture_table(table_id oid) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
  set quote_all_identifiers = off
as $$
declare
  wanted record;
  brought name;
begin
  for brought in select * from @schema@.brought_triggers(table_id) loop
    execute format('drop trigger %I on %s', brought, table_id::regclass);
  end loop;
  for wanted in
    select shape.trigger_name, table_id::regclass as on_table, condition, always, @trigger_head@ as head,
      format('EXECUTE FUNCTION %I.%s(', @schema_name@,
        case when shape.kind = 'End' then 'end_statement' when shape.kind = 'Truncate' then 'capture_truncate'
          when shape.by_row then 'capture_row'
          else 'capture_' || lower(shape.kind) || case when @settings_matter@ then '_fixed' else '' end end) || coalesce((
        select string_agg('''' || replace(argument, '''', '''''') || '''', ', ' order by position)
        from unnest(case
          when shape.kind = 'End' or shape.kind = 'Truncate' and level = 'Partition' then array[root_schema, root_name]
          when shape.kind = 'Truncate' then array[]::text[]
          when shape.by_row then array[about, root_schema, root_name, rule, case when written_again then 'again' else '' end]
            || case when condition is null then array[]::text[] else array[left(md5(convert_to(condition, 'UTF8')), 12)] end
          else array[about] end) with ordinality as passed (argument, position)), '') || ')' as call
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    cross join lateral (
      select exists (
        select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e') as of_extension
    ) as extension
    cross join lateral (@captured_as@) as captured_as
    cross join lateral (
      select entry, entry ->> 'rule' as rule, coalesce((entry -> 'replicated')::boolean, false) as always,
        case when (entry -> 'byRow')::boolean and @level@ = 'Statement' then 'EachRow' else @level@ end as level
      from @schema@.installation
      cross join jsonb_array_elements(capture_tables) as entry
      where coalesce(entry ->> 'schema', root_schema) = root_schema
        and (entry ->> 'name' = root_name
          or (entry ->> 'name' = '*' and not of_extension and not coalesce(entry -> 'exclude' ? root_name, false)))
      order by entry ->> 'name' = root_name desc
      limit 1
    ) as chosen
    cross join lateral (select @written_again@ as written_again) as triggered
    cross join lateral (@key_columns@) as primary_key
    cross join lateral (
      select '{"key":' || key || ',"version":"' || left(md5(convert_to((@columns_digest@) || rule || key, 'UTF8')), 12) || '"}' as about
      from (
        select coalesce((
          select '[' || string_agg(to_json(name)::text, ',' order by position) || ']'
          from jsonb_array_elements_text(entry -> 'key') with ordinality as key_column (name, position)), key_json) as key
      ) as chosen_key
    ) as described
    join @trigger_shapes@
      on case shape.kind when 'End' then written_again and level <> 'Statement' else entry -> 'operations' ? shape.kind end
        and (shape.kind in ('End', 'Truncate') or shape.of_level = level)
    cross join lateral (select entry -> 'when' ->> shape.kind as condition) as conditional
    where pg_class.oid = table_id and relkind in ('r', 'p') and relpersistence <> 't'
      and @user_schema@
      and not exists (select from @schema@.unsafe_types() as unsafe where unsafe.type = reltype)
  loop
    if not exists (
      select from pg_trigger
      cross join lateral (select pg_get_triggerdef(pg_trigger.oid) as definition) as printed
      where tgrelid = table_id and tgenabled = case when wanted.always then 'A' else 'O' end
        and case when wanted.condition is null then definition = wanted.head || wanted.call
          else starts_with(definition, wanted.head || 'WHEN (') and right(definition, length(wanted.call) + 2) = ') ' || wanted.call end
    ) then
      if wanted.condition is not null then
        perform @schema@.check_condition_types(wanted.on_table);
      end if;
      execute overlay(wanted.head || case when wanted.condition is null then '' else format(e'WHEN (%s\n) ', wanted.condition) end || wanted.call placing 'CREATE OR REPLACE' from 1 for 6);
      if wanted.condition is not null then
        perform @schema@.check_condition(wanted.on_table, wanted.trigger_name);
      end if;
      if wanted.always then
        perform set_config('pgevents.build', 'on', true);
        execute format('alter table %s enable always trigger %I', wanted.on_table, wanted.trigger_name);
        perform set_config('pgevents.build', 'off', true);
      end if;
    end if;
  end loop;
end
$$;

-- A command must not fail for this: whatever goes wrong is a warning, and the worker looks at the
-- tables by itself every few seconds.
create or replace function @schema@.ddl_ended() returns event_trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  command record;
begin
  -- What a build does to its own triggers is no change of a table, and is done by the spec that is to be.
  if current_setting('pgevents.build', true) = 'on' then
    return;
  end if;
  for command in
    select ended.*, table_name.relname
    from pg_event_trigger_ddl_commands() with ordinality as ended
    join pg_namespace on nspname = case ended.schema_name when 'pg_temp' then (select nspname from pg_namespace where oid = pg_my_temp_schema()) else ended.schema_name end
    left join pg_index on ended.classid = 'pg_class'::regclass and indexrelid = ended.objid
    left join pg_class as table_name
      on ended.classid = 'pg_class'::regclass and table_name.oid = coalesce(indrelid, ended.objid)
    where coalesce(obj_description(pg_namespace.oid, 'pg_namespace'), '') <> @schema_comment@
    order by ended.ordinality
  loop
    perform @schema@.tell_schema_change(command.schema_name, coalesce(command.relname, command.object_identity),
      json_build_object('classid', command.classid, 'objid', command.objid, 'objsubid', command.objsubid,
        'command_tag', command.command_tag, 'object_type', command.object_type, 'schema_name', command.schema_name,
        'object_identity', command.object_identity, 'in_extension', command.in_extension),
      session_user, @context@);
    if command.classid = 'pg_class'::regclass then
      begin
        perform @schema@.capture_table(command.objid);
        -- A command that attaches a partition speaks of the root only.
        perform @schema@.capture_table(relid) from pg_partition_tree(command.objid)
        where exists (select from @schema@.brought_triggers(relid));
      exception when others then
        -- A condition, say, that the table is not made for: the build says more.
        raise warning 'pg-events does not capture % as it should (SQLSTATE %); it is looked at again within seconds', command.object_identity, sqlstate;
      end;
    end if;
  end loop;
  perform @schema@.wake_worker();
exception when others then
  raise warning 'pg-events could not follow this command (SQLSTATE %); capture is looked at again within seconds', sqlstate;
end
$$;

-- Triggers of users, which change how their table is captured, and what types become in JSON.
create or replace function @schema@.surroundings_changed() returns event_trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_tag <> 'CREATE TRIGGER' then
    perform @schema@.release_unsafe_tables();
    return;
  end if;
  -- Of a partitioned table it would take a lock on every partition: the worker's affair.
  perform @schema@.capture_table(tgrelid)
  from pg_event_trigger_ddl_commands() as ended
  join pg_trigger on pg_trigger.oid = ended.objid
  join pg_class on pg_class.oid = tgrelid
  join pg_proc on pg_proc.oid = tgfoid
  where ended.classid = 'pg_trigger'::regclass and relkind = 'r' and not relispartition and @foreign_function@;
exception when others then
  raise warning 'pg-events could not follow this command (SQLSTATE %); capture is looked at again within seconds', sqlstate;
end
$$;

create or replace function @schema@.objects_dropped() returns event_trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  dropped record;
begin
  if current_setting('pgevents.build', true) = 'on' then
    return; -- as in ddl_ended
  end if;
  for dropped in
    select *
    from pg_event_trigger_dropped_objects()
    where (object_type = 'table' or original and tg_tag in ('ALTER TABLE', 'DROP TABLE')) and schema_name is distinct from @schema_name@
  loop
    perform @schema@.tell_schema_change(dropped.schema_name,
      case when dropped.object_type like 'table %' then dropped.address_names[2]
        else coalesce(dropped.object_name, dropped.object_identity) end,
      json_build_object('classid', dropped.classid, 'objid', dropped.objid, 'objsubid', dropped.objsubid,
        'original', dropped.original, 'normal', dropped.normal, 'is_temporary', dropped.is_temporary,
        'object_type', dropped.object_type, 'schema_name', dropped.schema_name, 'object_name', dropped.object_name,
        'object_identity', dropped.object_identity),
      session_user, @context@);
  end loop;
  perform @schema@.wake_worker();
exception when others then
  raise warning 'pg-events could not follow this command (SQLSTATE %); capture is looked at again within seconds', sqlstate;
end
$$;

-- Tells of what differs from the tables as they were last told of, and remembers them as they are. Who
-- changed them is not known. tell false: only remembers.
create or replace function @schema@.compare_tables(tell boolean) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  change record;
  dropped_column record;
begin
  for change in
    select coalesce(found.id, known.id) as id, known.schema_name as old_schema, known.table_name as old_table,
      known.shape as old_shape, found.schema_name, found.table_name, found.in_extension, found.shape
    from @schema@.known_table as known
    full join (
      select relation.oid as id, nspname::text as schema_name, relname::text as table_name, @table_shape@ as shape,
        exists (select from pg_depend where classid = 'pg_class'::regclass and objid = relation.oid and deptype = 'e') as in_extension
      from pg_class as relation
      join pg_namespace on pg_namespace.oid = relnamespace
      where @told_tables@
    ) as found on found.id = known.id
    where (known.schema_name, known.table_name, known.shape) is distinct from (found.schema_name, found.table_name, found.shape)
    order by found.id nulls first, known.id
  loop
    if change.schema_name is null then
      delete from @schema@.known_table where id = change.id;
      continue when not tell;
      perform @schema@.tell_schema_change(change.old_schema, change.old_table,
        json_build_object('classid', 'pg_class'::regclass::oid, 'objid', change.id, 'objsubid', 0,
          'original', true, 'normal', false, 'is_temporary', false, 'object_type', 'table',
          'schema_name', change.old_schema, 'object_name', change.old_table,
          'object_identity', format('%I.%I', change.old_schema, change.old_table)),
        null, null);
      continue;
    end if;
    insert into @schema@.known_table (id, schema_name, table_name, shape)
    values (change.id, change.schema_name, change.table_name, change.shape)
    on conflict (id) do update
    set schema_name = excluded.schema_name, table_name = excluded.table_name, shape = excluded.shape;
    continue when not tell;
    for dropped_column in
      select (old_column ->> 0)::integer as number, old_column ->> 1 as name
      from jsonb_array_elements(change.old_shape -> 'columns') as old_column
      where not exists (
        select from jsonb_array_elements(change.shape -> 'columns') as new_column
        where new_column -> 0 = old_column -> 0)
    loop
      perform @schema@.tell_schema_change(change.schema_name, change.table_name,
        json_build_object('classid', 'pg_class'::regclass::oid, 'objid', change.id, 'objsubid', dropped_column.number,
          'original', true, 'normal', false, 'is_temporary', false, 'object_type', 'table column',
          'schema_name', change.schema_name, 'object_name', null,
          'object_identity', format('%I.%I.%I', change.schema_name, change.table_name, dropped_column.name)),
        null, null);
    end loop;
    perform @schema@.tell_schema_change(change.schema_name, change.table_name,
      json_build_object('classid', 'pg_class'::regclass::oid, 'objid', change.id, 'objsubid', 0,
        'command_tag', case when change.old_table is null then 'CREATE TABLE' else 'ALTER TABLE' end,
        'object_type', 'table', 'schema_name', change.schema_name,
        'object_identity', format('%I.%I', change.schema_name, change.table_name),
        'in_extension', change.in_extension),
      null, null);
  end loop;
  perform @schema@.wake_worker();
end
$$;
