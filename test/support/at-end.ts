import { afterAll } from "vitest";
import type { AtEnd } from "./service.js";

/** For what begins in a `beforeAll` or in a test and serves the whole file: there `afterAll` itself has no effect. */
export function atEndOfFile(): AtEnd {
  const acts: (() => Promise<void>)[] = [];
  afterAll(async () => {
    for (const act of acts.reverse()) await act();
  });
  return (act) => void acts.push(act);
}
