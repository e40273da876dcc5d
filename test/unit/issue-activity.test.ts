import { describe, expect, test } from "vitest";
import { Overloaded, type Reason, Refusal } from "../../src/domain/refusal.js";
import { activityBoundsMs, IssueActivity } from "../../src/issuing/issue-activity.js";

const refused = (reason: Reason) => async () => new Refusal(reason);
const issued = async () => "issued";

describe("what became of the requests for a coupon", () => {
  test("is counted by outcome, whether it is answered, refused or thrown", async () => {
    const activity = new IssueActivity(() => 7);
    await activity.observe("a", issued);
    await activity.observe("a", issued);
    await activity.observe("a", refused("SOLD_OUT"));
    await expect(activity.observe("a", () => Promise.reject(new Overloaded()))).rejects.toThrow(Overloaded);
    await expect(activity.observe("a", () => Promise.reject(new Error("a bug")))).rejects.toThrow("a bug");
    const counted = activity.of("a")!;
    expect(counted.sinceMs).toBe(7);
    expect(Object.fromEntries(counted.outcomes)).toEqual({ OK: 2, SOLD_OUT: 1, OVERLOADED: 1, INTERNAL: 1 });
    expect(counted.latencies).toHaveLength(activityBoundsMs.length + 1);
    expect(counted.latencies.reduce((sum, count) => sum + count, 0)).toBe(5);
    expect(activity.of("b")).toBeUndefined();
  });

  test("made-up ids do not push out what is sold", async () => {
    const activity = new IssueActivity(() => 0);
    await activity.observe("sold", issued);
    for (let i = 0; i < 3_000; i++) await activity.observe(`made up ${i}`, refused("COUPON_NOT_FOUND"));
    expect(activity.of("made up 2999")).toBeUndefined();
    expect(activity.of("sold")?.outcomes.get("OK")).toBe(1);
  });

  test("those that were asked for last are kept, and who looks on keeps none", async () => {
    const activity = new IssueActivity(() => 0);
    await activity.observe("first", issued);
    for (let i = 1; i < 1_000; i++) await activity.observe(`other ${i}`, issued);
    expect(activity.of("first")).toBeDefined();
    await activity.observe("one more", issued);
    expect(activity.of("first")).toBeUndefined();
    expect(activity.of("other 1")).toBeDefined();
  });
});
