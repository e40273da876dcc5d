const pauseMs = 20;

/** Waits until a look succeeds: it returns something truthy and does not throw. Fails with what it last saw. */
export async function until<T>(what: string, look: () => Promise<T> | T, limitMs = 30_000): Promise<T> {
  const deadlineMs = Date.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen) return seen;
      last = seen;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= deadlineMs) throw new Error(`${what}: not within ${limitMs} ms; last seen: ${String(last)}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
