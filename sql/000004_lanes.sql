-- Lanes of a callback that are shared out among workers, and events that are parked.

-- The key space of a callback is cut into 32 lanes (lane_of). As long as one worker holds all of them, there is
-- no row here: lease and position are in the callback's own row. Once they are shared out, each row holds
-- some lanes, and the callback's row only the position that all of them have passed.
create table @schema@.lease (
  callback text not null,
  part integer not null,
  -- Bit n: lane n. The rows of a callback share out all of its lanes.
  lanes bigint not null,
  seen pg_snapshot not null,
  ahead pg_snapshot,
  ahead_id bigint,
  passed bigint[],
  -- The event that waits for other holders, when everything before it is done, what lies parked included, which the position
  -- passes.
  stands_before bigint,
  holder text,
  term bigint not null default 0,
  expires_at timestamptz,
  holder_pid integer,
  holder_started timestamptz,
  state text not null default 'Waiting',
  last_error text,
  state_since timestamptz not null default now(),
  primary key (callback, part),
  check ((ahead is null) = (ahead_id is null))
) with (fillfactor = 50);

-- The windows that holders of shared lanes read, so that all of them read the log in one order: whoever is
-- the first to come to the end of one says where the next one ends.
create table @schema@.agreed_window (
  number bigint generated always as identity,
  callback text not null,
  seen text not null,
  ahead text not null,
  primary key (callback, seen)
);

-- Workers that are alive, which share out the lanes.
create table @schema@.worker (
  id text primary key,
  -- What it relays: it counts where the lanes of one of these are shared out.
  callbacks text[] not null,
  expires_at timestamptz not null,
  pid integer,
  started timestamptz
);

-- Events of keys whose attempts fail for long, and what came after them: whole rows, so that they outlive
-- the segment. The position of their callback has passed them.
create table @schema@.parked (
  callback text not null,
  id bigint not null,
  xid xid8 not null,
  at timestamptz not null,
  operation "char" not null,
  schema_name text not null,
  table_name text not null,
  key text,
  old_key text,
  old text,
  new text,
  context text not null,
  schema_version text,
  attempts integer not null,
  error text,
  parked_at timestamptz not null default now(),
  -- The callback whose dead letter this is (with `/`, the way it took); empty: it is this callback's own event.
  letter_of text not null default '',
  -- Why it is a dead letter there: {"error", "attempts"}.
  letter json,
  -- Null: parked because attempts failed. 0: a dead letter, delivered again. Else the replay.
  replay bigint,
  -- A relay has it in memory, or had.
  taken boolean not null default true,
  primary key (callback, id, letter_of)
);
create index parked_waiting_index on @schema@.parked (callback, id) where not taken;
create index parked_replay_index on @schema@.parked (callback, replay) where replay is not null;
