import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { CatalogService } from "../../gen/coupon/v1/catalog_service_pb.js";
import { CouponState } from "../../gen/coupon/v1/coupon_pb.js";
import { createSample, issue, readCoupon } from "../e2e/samples.js";
import { atEndOfFile } from "../support/at-end.js";
import { letIn } from "../support/clients.js";
import type { Replica } from "../support/replica.js";
import { runService } from "../support/replica.js";
import { type Backing, backing, startReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { chromiumPath, startChromium } from "./chromium.js";

const hostileName = `<img src=x onerror="document.title='hacked'"><script>document.title='hacked'</script>`;
const desktop = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
/** In a browser that shares the machine with all other tests. */
const patienceMs = 60_000;

let browser: Browser;
let around: Backing;
let open: Replica;
let closed: Replica;

async function showPage(replica: Replica, hash: string, options: BrowserContextOptions = desktop) {
  const context = await browser.newContext(options);
  onTestFinished(() => context.close());
  context.setDefaultTimeout(patienceMs);
  const page = await context.newPage();
  /** What the browser says is wrong: what the policy has stopped, scripts that failed, files that are missing. */
  const complaints: string[] = [];
  /** Calls that were answered, and when the browser began them, in ms. */
  const calls: { readonly path: string; readonly atMs: number }[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfinished", (request) => {
    if (request.method() !== "POST") return;
    calls.push({ path: new URL(request.url()).pathname, atMs: request.timing().startTime });
  });
  await page.goto(`http://127.0.0.1:${replica.httpPort}/console${hash}`);
  return { page, complaints, calls };
}

const leftOn = async (page: Page) => Number((await page.locator(".hero .left").textContent())?.replaceAll(",", ""));
const stateOf = async (couponId: string) => (await readCoupon(open.client, couponId)).state;

/** As somebody would who has no mouse: the button, then the choice that is not the first, then Enter. */
async function pressAndConfirm(page: Page, button: string, confirm: string): Promise<void> {
  await page.getByRole("button", { name: button }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Tab");
  expect(await page.evaluate("document.activeElement.textContent")).toBe(confirm);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

describe.skipIf(!chromiumPath)("the console in a browser (needs Chromium on PATH)", () => {
  const atEnd = atEndOfFile();
  beforeAll(async () => {
    around = await backing(atEnd);
    [open, closed] = await startReplicas(atEnd, around.stores, {}, { AUTH: "keys", ADMIN_PORT: "0" });
    browser = await startChromium();
  });
  afterAll(() => browser?.close());

  test("shows a sale as it goes, and pauses and resumes it by keyboard when it is asked twice", async () => {
    const { client } = open;
    const { id, name } = await createSample(client, { name: hostileName, quantity: 100n });
    const { page, complaints, calls } = await showPage(open, `#/coupons/${id}`);
    await page.getByRole("heading", { name: hostileName }).waitFor();
    await until("the whole stock is shown", async () => (await leftOn(page)) === 100, patienceMs);
    const reasons = page.locator(".reasons");
    await until(
      "the first counts have come",
      () => calls.some(({ path }) => path.endsWith("GetCouponActivity")),
      patienceMs,
    );

    for (let user = 0; user < 60; user++) await letIn(() => issue(client, id, `user-${user}`));
    // Each of these holds one.
    for (let user = 0; user < 5; user++) await issue(client, id, `user-${user}`).catch(() => {});
    await until("the stock has fallen", async () => (await leftOn(page)) === 40, patienceMs);
    await reasons.getByText("Holds it already").waitFor();
    expect(await page.locator(".plot canvas").count()).toBe(3);

    // Enter, pressed twice, pauses nothing.
    await page.getByRole("button", { name: "Pause…" }).focus();
    await page.keyboard.press("Enter");
    expect(await page.getByRole("dialog").textContent()).toContain(name);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await stateOf(id)).toBe(CouponState.ACTIVE);

    await pressAndConfirm(page, "Pause…", "Pause it");
    expect(await stateOf(id)).toBe(CouponState.PAUSED);
    await page.locator(".head .pill", { hasText: "Paused" }).waitFor();
    await pressAndConfirm(page, "Resume…", "Resume it");
    expect(await stateOf(id)).toBe(CouponState.ACTIVE);
    await page.locator(".head .pill", { hasText: "Active" }).waitFor();

    expect(await page.title()).toContain("<img");
    expect(await page.locator("img[src='x']").count()).toBe(0);
    expect(complaints).toEqual([]);

    // What it reads by itself is less than one call a second, whatever happens; a busy machine only makes it less.
    const times = calls.flatMap(({ path, atMs }) => (/\/(Get|List)/.test(path) ? [atMs] : []));
    expect(times.length).toBeGreaterThan(4);
    expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan((times.length - 1) * 1_000);
  });

  test("finds coupons, shows what a user holds, and fits a phone", async () => {
    const { client } = open;
    const { id } = await createSample(client, { name: "Lantern festival", category: hostileName, quantity: 5n });
    await issue(client, id, "ann/1?");
    const { page, complaints } = await showPage(open, "", phone);
    const fits = async () => {
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(390);
    };
    await page.getByRole("link", { name: "Lantern festival" }).waitFor();
    await fits();
    await page.getByLabel("Search coupons").fill("nothing has this word");
    await page.getByText("Nothing has “nothing has this word”").waitFor();
    await page.getByLabel("Search coupons").fill("lantern");
    await page.getByRole("link", { name: "Lantern festival" }).click();
    await until("the coupon is shown", async () => (await leftOn(page)) === 4, patienceMs);
    await fits();

    await page.getByRole("link", { name: "Users" }).click();
    await page.getByLabel("User id").fill("ann/1?");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "User ann/1?" }).waitFor();
    await page.getByRole("link", { name: "Lantern festival" }).waitFor();
    await fits();
    expect(complaints).toEqual([]);
  });

  test("says of a user when that was read, and not what the view before has said", async () => {
    const state = (page: Page) => page.locator("#link");
    const { page } = await showPage(open, "#/users/nobody");
    await state(page)
      .filter({ hasText: /^Read at \d\d:\d\d:\d\d$/ })
      .waitFor();
    await page.goto(`http://127.0.0.1:${open.httpPort}/console#/coupons/none`);
    await state(page).filter({ hasText: "Not live" }).waitFor();
    await page.getByRole("link", { name: "Users" }).click();
    await state(page).filter({ hasText: "Nothing read" }).waitFor();
  });

  test("asks for a key where the service does, and says what a key may not do", async () => {
    const { id } = await createSample(open.client, { name: "For those with a key", quantity: 7n });
    const database = { DATABASE_URL: around.stores.databaseUrl };
    const made = await runService(database, "keys", "create", "--caller", "ops", "--scopes", "catalog.read");
    const key = made.out.trim();
    const { page } = await showPage(closed, `#/coupons/${id}`);
    // As it is copied from where keys are cut short: no header can have that.
    await page.getByLabel("Key, or token").fill(`${key.slice(0, 20)}…`);
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.querySelector('#key-input').validity.patternMismatch")).toBe(true);
    await page.getByLabel("Key, or token").fill(` ${key} `);
    await page.keyboard.press("Enter");
    await until("the stock is shown", async () => (await leftOn(page)) === 7, patienceMs);
    // What the key may not read is said where it is missing; the rest goes on.
    await page.getByText("usage.read").first().waitFor();
    await page.getByRole("button", { name: "Pause…" }).click();
    await page.getByRole("button", { name: "Pause it" }).click();
    await page.getByRole("dialog").getByText("catalog.write").waitFor();
    expect(await stateOf(id)).toBe(CouponState.ACTIVE);
    await page.keyboard.press("Escape");

    // Of this tab: it is there after a reload, and nowhere that outlives the tab.
    await page.reload();
    await until("the stock is shown again", async () => (await leftOn(page)) === 7, patienceMs);
    const stored = await page.evaluate("JSON.stringify(localStorage) + document.cookie");
    expect(stored).not.toContain(key);
  });

  test("says when the service is away, and goes on by itself when it is back", async () => {
    const { id } = await createSample(open.client, { quantity: 3n });
    const { page } = await showPage(open, `#/coupons/${id}`);
    await until("the stock is shown", async () => (await leftOn(page)) === 3, patienceMs);
    await page.context().setOffline(true);
    await page.getByRole("alert").filter({ hasText: "The service does not answer" }).waitFor();
    expect(await leftOn(page)).toBe(3);
    await open.client.call(CatalogService.method.pauseCoupon, { couponId: id });
    await page.context().setOffline(false);
    await page.locator(".head .pill", { hasText: "Paused" }).waitFor();
    await page.getByText("The service does not answer").waitFor({ state: "hidden" });
  });
});
