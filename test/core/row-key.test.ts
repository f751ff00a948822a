import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { rowKey } from "../../src/core/delivery/row-key.ts";

const key = (columns: string[], image: string) =>
  rowKey(
    columns.map((column) => JSON.stringify(column)),
    image,
  );

describe("the key of a row", () => {
  test("values as they stand, in key order, wherever the columns are", () => {
    const image = '{"id":1,"n":12345678901234567890.10,"t":"a\\"b\\\\","z":null,"b":true}';
    assert.equal(key(["id"], image), "[1]");
    assert.equal(key(["t", "n", "id"], image), '["a\\"b\\\\",12345678901234567890.10,1]');
    assert.equal(key(["b", "z"], image), "[true,null]");
  });

  test("null without columns, or when one is not there", () => {
    assert.equal(key([], '{"id":1}'), null);
    assert.equal(key(["other"], '{"id":1}'), null);
    assert.equal(key(["id", "other"], '{"id":1}'), null);
    assert.equal(key(["id"], "{}"), null);
    assert.equal(key(["id"], "{ }"), null);
  });

  test("names and texts that look like something else", () => {
    const image = '{"\\"id\\"":9,"x":"\\",\\"id\\":7","j":{"id":[8,{"id":"}"}]},"id":5,"id2":6}';
    assert.equal(key(["id"], image), "[5]");
    assert.equal(key(['"id"'], image), "[9]");
    assert.equal(key(["j"], image), '[{"id":[8,{"id":"}"}]}]');
    assert.equal(key(["id2"], image), "[6]");
    assert.equal(key(["back\\"], '{"back\\\\":"\\\\"}'), '["\\\\"]');
  });

  test("with the white space that json columns keep, and json_object_agg writes", () => {
    assert.equal(key(["b", "a"], '{ "a" : {\n "b" : 3 } , "b" : [ 1,\t2 ] }'), '[[ 1,\t2 ],{\n "b" : 3 }]');
    assert.equal(key(["b"], '{ "a" : 1 , "b" : 2 }'), "[2]");
  });

  test("what JSON readers refuse does not matter", () => {
    assert.equal(key(["id"], '{"j":"\\u0000 \\ud800","id":1}'), "[1]");
  });
});
