import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { unpackImages } from "../../src/core/delivery/packed-images.ts";

describe("images of rows that are packed by column", () => {
  test("are taken apart text by text, numbers digit by digit", () => {
    assert.deepEqual(
      unpackImages(
        String.raw`["id", "n", "\"]\\", "j"],[1, 2],[1.10, 12345678901234567890],["a\",]\\", null],[[1, [2]], ${"\n"} {"a" : ["]}", {}]}]`,
      ),
      [
        String.raw`{"id":1,"n":1.10,"\"]\\":"a\",]\\","j":[1, [2]]}`,
        String.raw`{"id":2,"n":12345678901234567890,"\"]\\":null,"j":{"a" : ["]}", {}]}}`,
      ],
    );
  });

  test("of one row and one column", () => {
    assert.deepEqual(unpackImages('["a"],[{}]'), ['{"a":{}}']);
  });
});
