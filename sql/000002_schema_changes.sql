-- How changes of tables themselves are noticed, and what that needs to know.
alter table @schema@.installation
  -- EventTrigger, Poll or Off; null until a build has set it up.
  add column schema_change_mode text,
  -- Poll: digest of all tables as they were last told of.
  add column tables_digest text,
  -- Of hashes of values: without it nobody can try which value gives a hash.
  add column hash_salt text not null default gen_random_uuid()::text || gen_random_uuid()::text,
  -- EventTrigger: what to capture, for tables that come; entries of spec.capture.tables, `schema` null for any.
  add column capture_tables jsonb not null default '[]';

-- Poll: every table as it was last told of.
create table @schema@.known_table (
  id oid primary key,
  schema_name text not null,
  table_name text not null,
  shape jsonb not null
);
