import { vi } from "vitest";

/** Makes `steadyMs()` follow a `Date` that is faked, until what it returns is called: `beforeEach` does so at the end of the test. */
export function followDate(): () => void {
  const spy = vi.spyOn(performance, "now").mockImplementation(() => Date.now() - performance.timeOrigin);
  return () => spy.mockRestore();
}
