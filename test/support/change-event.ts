/** Change events as the outbox gives them. */
import type { ChangeEvent, EventOrigin } from "../../src/core/event.ts";

export const ORIGIN: EventOrigin = {
  installationId: "6b1f3c0e-9f0e-4a52-9a39-1f2d3c4b5a69",
  source: "/pgevents/shop/orders",
};

/** An insert into public.orders with the key 1, but for what is given. */
export function changeEvent(changes: Partial<ChangeEvent> = {}): ChangeEvent {
  return {
    id: "1",
    transactionId: "700",
    time: "2026-11-24T12:00:00.123456Z",
    operation: "Insert",
    schema: "public",
    table: "orders",
    key: "[1]",
    oldKey: null,
    old: null,
    new: '{"id":1,"status":"new"}',
    schemaVersion: null,
    context: '{"session_user":"app","application_name":"shop"}',
    ...changes,
  };
}
