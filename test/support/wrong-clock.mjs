/**
 * For `node --import`: this machine's clock is TEST_CLOCK_AHEAD_MS ahead, and at SIGUSR2 it is set to TEST_CLOCK_SET_TO_MS
 * ahead. As on a real machine, what counts the time that passes (`performance.now()`, timers) goes on evenly.
 */
const RealDate = Date;
let aheadMs = Number(process.env.TEST_CLOCK_AHEAD_MS ?? 0);
const now = () => RealDate.now() + aheadMs;

globalThis.Date = new Proxy(RealDate, {
  apply: () => new RealDate(now()).toString(),
  construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget),
  get: (target, name, receiver) => (name === "now" ? now : Reflect.get(target, name, receiver)),
});
Object.defineProperty(performance, "timeOrigin", { value: performance.timeOrigin + aheadMs });
process.on("SIGUSR2", () => {
  aheadMs = Number(process.env.TEST_CLOCK_SET_TO_MS ?? 0);
});
