-- What a condition of the spec (`when`) may not be.

-- PostgreSQL reads the literals of a condition as values of the columns' types, and what reading a domain, a
-- range or what is made of them runs its owner wrote. So a table with such a column takes no condition.
create or replace function @schema@.check_condition_types(table_id regclass) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  refused text;
begin
  with recursive used (id) as (
    select atttypid from pg_attribute where attrelid = table_id and attnum > 0 and not attisdropped
    union
    select part.id
    from used
    join pg_type on pg_type.oid = used.id
    cross join lateral (
      select typbasetype
      union all
      select typelem
      union all
      select rngsubtype from pg_range where used.id in (rngtypid, rngmultitypid)
      union all
      select atttypid from pg_attribute where typrelid <> 0 and attrelid = typrelid and attnum > 0 and not attisdropped
    ) as part (id)
    where part.id <> 0
  )
  select string_agg(distinct format_type(used.id, null), ', ') into refused
  from used
  cross join lateral (
    select matched[1]::oid from pg_constraint
    cross join regexp_matches(conbin::text, ':(?:op)?funcid (\d+)', 'g') as matched
    where contypid = used.id
    union all
    select rngcanonical from pg_range where used.id in (rngtypid, rngmultitypid)
    union all
    select castfunc from pg_cast where castsource = used.id and casttarget = 'json'::regtype
  ) as called (id)
  join pg_proc on pg_proc.oid = called.id
  join pg_language on pg_language.oid = prolang
  where pg_proc.oid >= 16384 and lanname not in ('c', 'internal'); -- those only superusers can make
  if refused is not null then
    raise exception using errcode = 'invalid_object_definition',
      message = format('its columns have types whose values are checked or written by functions of users (%s), so it can have no condition', refused);
  end if;
end
$$;

-- A condition of the spec is evaluated with the rights of whoever writes, so it may only use functions and
-- operators that PostgreSQL brings along and that change nothing. Those of types are found here as well; some
-- take SQL, or the name of a type, as a value.
create or replace function @schema@.check_condition(table_id regclass, trigger_name name) returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set standard_conforming_strings = on
as $$
declare
  condition text;
  refused text;
begin
  select tgqual::text into condition from pg_trigger where tgrelid = table_id and tgname = trigger_name;
  select string_agg(distinct used.oid::regprocedure::text, ', ') into refused
  from (
    select matched[1]::oid as id from regexp_matches(condition, ':(?:op)?funcid (\d+)', 'g') as matched
    union
    select oprcode
    from regexp_matches(condition, ':opnos \(o ([\d ]+)\)', 'g') as matched
    cross join regexp_split_to_table(matched[1], ' ') as operator_id
    join pg_operator on pg_operator.oid = operator_id::oid
  ) as called
  join pg_proc as used on used.oid = called.id
  where used.provolatile = 'v' or used.oid >= 16384 or not has_function_privilege('public', used.oid, 'EXECUTE')
    or used.proname ~ '_to_xml|^pg_input_|_validator$'
    or 'cstring'::regtype = any (used.proargtypes::oid[]);
  if refused is not null then
    raise exception using errcode = 'invalid_object_definition',
      message = format('its condition uses %s, and may use only functions of PostgreSQL itself that are immutable or stable', refused);
  end if;
  if condition ~ ':varattno -' then
    raise exception using errcode = 'invalid_object_definition',
      message = 'its condition uses a system column, and may use only columns of the table';
  end if;
  if condition ~ '\{COERCETODOMAIN ' then
    raise exception using errcode = 'invalid_object_definition',
      message = 'its condition casts to a domain, which can run functions of users';
  end if;
end
$$;
