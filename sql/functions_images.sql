-- What of a row is captured, and how the JSON of rows is read without failing.

-- A column of type json may hold escapes that no function on json reads (\u0000, half a surrogate pair, a character
-- that the database's encoding lacks), and no write may fail for that. Before a text is read as json all its
-- escapes with a backslash or by number are set aside, in a way that nothing else looks like, and put back after.
-- Names of columns in other texts that are compared with it need the same.
create or replace function @schema@.guard_escapes(document text) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select replace(replace(replace(document,
    chr(127), chr(127) || '0'), repeat(chr(92), 2), chr(127) || '1'), chr(92) || 'u', chr(127) || '2')
$$;

create or replace function @schema@.unguard_escapes(document text) returns text
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select replace(replace(replace(document,
    chr(127) || '2', chr(92) || 'u'), chr(127) || '1', repeat(chr(92), 2)), chr(127) || '0', chr(127))
$$;

-- The text of a value that is hashed; the json itself where that cannot be read.
create or replace function @schema@.guarded_text(value json) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return @schema@.unguard_escapes(value::text)::json #>> '{}';
exception when data_exception then
  return @schema@.unguard_escapes(value::text);
end
$$;

-- What of a row is captured: rule has include or exclude, mask and hash, each a list of columns, and payload.
-- strict: of the columns that are named one that is missing, because it was renamed say, leaves nothing of the row,
-- so that no value gets out under another name. guarded: by guard_escapes, all three. In plpgsql, which keeps plans.
create or replace function @schema@.shape_row(image json, rule jsonb, key jsonb, guarded boolean) returns json
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  salt text;
  included jsonb := rule -> 'include';
  excluded jsonb := coalesce(rule -> 'exclude', '[]');
  masked jsonb := coalesce(rule -> 'mask', '[]');
  hashed jsonb := coalesce(rule -> 'hash', '[]');
  only_key boolean := rule ->> 'payload' is not distinct from 'Key';
begin
  if rule ? 'strict' and jsonb_array_length(rule -> 'strict') > (
    select count(*) from json_object_keys(image) as name where rule -> 'strict' ? name
  ) then
    return '{}';
  end if;
  if rule ? 'hash' then
    select hash_salt into salt from @schema@.installation;
  end if;
  return coalesce((
    select json_object_agg(name, case
        when masked ? name then case json_typeof(value) when 'null' then value else '"***"' end
        when hashed ? name then case json_typeof(value) when 'null' then value
          else to_json(encode(sha256(convert_to(
            salt || case when guarded then @schema@.guarded_text(value) else value #>> '{}' end, 'UTF8')), 'hex')) end
        else value end)
    from json_each(image) as field (name, value)
    where case when included is null then not excluded ? name else included ? name end and (not only_key or key ? name)
  ), '{}');
end
$$;

-- Whether an update changed a value of one of the columns. One that is missing, because it was renamed say,
-- counts as changed.
create or replace function @schema@.changes_any(old_image json, new_image json, columns jsonb) returns boolean
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select count(*) < jsonb_array_length(columns) or bool_or(old_value::text is distinct from new_value::text)
    from rows from (json_each(old_image), json_each(new_image)) as field (name, old_value, same_name, new_value)
    where columns ? name);
end
$$;
