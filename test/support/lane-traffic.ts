/** Steady traffic on a small table, of all kinds that concern the order of events, until it is told to end. */
import type { TestDatabase } from "./postgres.ts";
import { randomFrom } from "./random-writers.ts";

const KEYS = 60;
const PACE = 100;

export interface Traffic {
  /** Ends it; resolves when nothing is under way any more. */
  end(): Promise<void>;
}

/** @param pace called now and then with the number of statements made, to wait for who is behind */
export function startTraffic(
  database: TestDatabase,
  seed: number,
  pace: (statements: number) => Promise<unknown>,
): Traffic {
  const random = randomFrom(seed);
  let ended = false;
  const run = async () => {
    for (let step = 1; !ended; step += 1) {
      await database.query(statement(random, step));
      if (step % PACE === 0) await pace(step);
    }
  };
  const running = run();
  return {
    end: async () => {
      ended = true;
      await running;
    },
  };
}

/** Updates of keys that meet, moves of rows to other keys, and now and then a TRUNCATE. */
function statement(random: (below: number) => number, step: number): string {
  const [one, other] = [random(KEYS), random(KEYS)];
  if (random(150) === 0) return "truncate orders";
  if (random(30) === 0)
    return `update orders set id = ${other} where id = ${one} and not exists (select from orders where id = ${other})`;
  if (random(12) === 0) return `delete from orders where id = ${one}`;
  return `insert into orders values (${one}, 'n${step}') on conflict (id) do update set note = excluded.note`;
}
