import { afterAll } from "vitest";
import type { AtEnd } from "./service.js";

/** For what begins in a `beforeAll` or in a test and serves the whole file: there `afterAll` itself has no effect. */
export function atEndOfFile(): AtEnd {
  const acts: (() => Promise<void>)[] = [];
  afterAll(async () => {
    const failures: unknown[] = [];
    // One that fails must not leave behind what the others would end.
    for (const act of acts.reverse()) await act().catch((error) => failures.push(error));
    if (failures.length > 0) throw new AggregateError(failures, "not all could be ended");
  });
  return (act) => void acts.push(act);
}
