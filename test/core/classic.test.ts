import assert from "node:assert/strict";
import { test } from "node:test";
import { classicPayload } from "../../src/core/delivery/classic.ts";
import { changeEvent } from "../support/change-event.ts";

const context = JSON.stringify({ session_user: 'o"brien', application_name: "x", query: 'select "1"' });
const payload = (changes: Parameters<typeof changeEvent>[0]) =>
  JSON.parse(classicPayload(changeEvent({ context, ...changes }))) as Record<string, unknown>;

test("each method has the keys of pg_events, in its order", () => {
  const head = ["table_schema", "table_name", "session_user", "method"];
  const images = { old: '{"id":1}', new: '{"id":2}' };
  assert.deepEqual(Object.keys(payload({ operation: "Insert", new: '{"id":2}' })), [
    ...head,
    "new_data",
    "query",
  ]);
  assert.deepEqual(Object.keys(payload({ operation: "Update", ...images })), [
    ...head,
    "old_data",
    "new_data",
    "query",
  ]);
  assert.deepEqual(Object.keys(payload({ operation: "Delete", old: '{"id":1}', new: null })), [
    ...head,
    "old_data",
    "query",
  ]);
  assert.deepEqual(Object.keys(payload({ operation: "Truncate", new: null })), [...head, "query"]);
});

test("names, roles and statements are escaped", () => {
  assert.deepEqual(payload({ schema: 'a"b', table: "t\n", new: '{"id":1}' }), {
    table_schema: 'a"b',
    table_name: "t\n",
    session_user: 'o"brien',
    method: "INSERT",
    new_data: { id: 1 },
    query: 'select "1"',
  });
});

test("images pass as PostgreSQL wrote them", () => {
  const text = classicPayload(changeEvent({ context, new: '{"n":12345678901234567890.10}' }));
  assert.ok(text.includes('"new_data":{"n":12345678901234567890.10},'));
});

test("without the statement's text `query` is null", () => {
  assert.equal(payload({ context: '{"session_user":"a"}' }).query, null);
});

test("a change of the schema is passed on as it is", () => {
  const change = '{"classid" : "1259", "command_tag" : "ALTER TABLE"}';
  assert.equal(
    classicPayload(changeEvent({ operation: "SchemaChange", new: change, context: "{}" })),
    change,
  );
});

test("what is delivered again has a field for it, as its last one", () => {
  const resent = { replay: 1, letter: null };
  assert.ok(classicPayload(changeEvent({ context, resent })).endsWith(',"pgeventsreplay":true}'));
  const change = changeEvent({
    operation: "SchemaChange",
    new: '{"classid" : "1259"}',
    context: "{}",
    resent,
  });
  assert.equal(classicPayload(change), '{"classid" : "1259","pgeventsreplay":true}');
});
