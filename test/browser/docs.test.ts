import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { atEndOfFile } from "../support/at-end.js";
import type { Replica } from "../support/replica.js";
import { runService } from "../support/replica.js";
import { type Backing, backing, startReplicas } from "../support/service.js";
import { chromiumPath, startChromium } from "./chromium.js";

/** Only what hangs takes so long. */
const patienceMs = 120_000;

describe.skipIf(!chromiumPath)("with Chromium (apt-get install chromium, or CHROMIUM=/path)", () => {
  let browser: Browser;
  let around: Backing;
  let replica: Replica;
  let apart: Replica;
  let key: string;

  const atEnd = atEndOfFile();
  beforeAll(async () => {
    around = await backing(atEnd);
    const { databaseUrl } = around.stores;
    const scopes = ["catalog.read", "catalog.write", "issue"].join();
    key = (
      await runService({ DATABASE_URL: databaseUrl }, "keys", "create", "--caller", "shop", "--scopes", scopes)
    ).out.trim();
    [replica, apart] = await startReplicas(
      atEnd,
      around.stores,
      { AUTH: "keys" },
      { AUTH: "keys", ADMIN_PORT: "0", CORS_ORIGINS: "*" },
    );
    browser = await startChromium();
  });
  afterAll(() => browser?.close());

  async function open(port: number, prepare?: (page: Page) => Promise<unknown>) {
    const page = await browser.newPage({ viewport: { width: 390, height: 844 }, colorScheme: "dark" });
    onTestFinished(() => page.close());
    page.setDefaultTimeout(patienceMs);
    const complaints: string[] = [];
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    await prepare?.(page);
    await page.goto(`http://127.0.0.1:${port}/docs`);
    return { page, complaints };
  }

  /**
   * The page shows some paths of what the service describes. To resolve all of them costs the browser five seconds of work, and three
   * more for each operation that is opened: one test does that.
   */
  function describeOnly(...some: readonly string[]) {
    return (page: Page) =>
      page.route("**/openapi.json", async (route) => {
        const response = await route.fetch();
        const { paths, ...document } = await response.json();
        const shown = Object.fromEntries(some.map((path) => [path, paths[path]]));
        await route.fulfill({ response, json: { ...document, paths: shown } });
      });
  }

  async function authorize(page: Page): Promise<void> {
    await page.locator(".btn.authorize").click();
    await page.locator(".dialog-ux input").first().fill(key);
    await page.locator(".dialog-ux button.authorize").first().click();
    await page.locator(".dialog-ux button.btn-done").first().click();
  }

  /** Opens an operation, writes the request over the example, executes it, and answers what came. */
  async function execute(page: Page, tag: string, id: string, request: object, fields: Record<string, string> = {}) {
    const operation = page.locator(`.opblock[id$="-${id}"]`);
    if (!(await operation.isVisible())) await page.locator(`.opblock-tag[data-tag="${tag}"]`).click();
    if (!(await operation.getAttribute("class"))?.includes("is-open"))
      await operation.locator(".opblock-summary-control").click();
    for (const [name, value] of Object.entries(fields))
      await operation.locator(`tr[data-param-name="${name}"] input`).fill(value);
    await operation.locator("textarea.body-param__text").fill(JSON.stringify(request));
    const answered = page.waitForResponse((response) => response.request().method() === "POST", {
      timeout: patienceMs,
    });
    await operation.locator("button.execute").click();
    const response = await answered;
    await operation.locator(".live-responses-table").waitFor();
    return { status: response.status(), body: await response.json(), shown: await operation.innerText() };
  }

  const coupon = { name: "By hand", discount: { percentageBasisPoints: 1_000 }, expireTime: "2099-01-01T00:00:00Z" };

  test("a coupon is created and issued by clicks, after a key was typed in", async () => {
    const { page, complaints } = await open(
      replica.httpPort,
      describeOnly("/v1/coupons", "/v1/coupons/{couponId}:issue"),
    );
    await authorize(page);
    const created = await execute(page, "CatalogService", "CatalogService_CreateCoupon", coupon);
    expect(created).toMatchObject({ status: 200, body: { coupon: { name: "By hand" } } });
    const couponId = created.body.coupon.id;
    expect(created.shown).toContain(couponId);
    const issued = await execute(
      page,
      "IssuanceService",
      "IssuanceService_IssueCoupon",
      { userId: "user-1" },
      { couponId },
    );
    expect(issued).toMatchObject({ status: 200, body: { userCoupon: { couponId, userId: "user-1" } } });
    const rows = await around.sql`SELECT user_id FROM user_coupons WHERE coupon_id = ${couponId}`;
    expect(rows.map(({ user_id }) => user_id)).toEqual(["user-1"]);
    // Neither a script nor a style was refused by the page's policy.
    expect(complaints).toEqual([]);
  });

  test("with ADMIN_PORT the page of the whole document calls the port for calls, which refuses it until a key was typed in", async () => {
    const { page, complaints } = await open(apart.adminPort as number);
    const create = () => execute(page, "CatalogService (Connect)", "CatalogService_CreateCoupon_Connect", { coupon });
    const refused = await create();
    expect([refused.status, refused.body.code]).toEqual([401, "unauthenticated"]);
    expect(complaints.splice(0).every((one) => one.includes("401"))).toBe(true);
    await authorize(page);
    const created = await create();
    expect(created).toMatchObject({ status: 200, body: { coupon: { name: "By hand" } } });
    expect(complaints).toEqual([]);
    const wider = "document.documentElement.scrollWidth - innerWidth";
    expect(await page.evaluate(wider)).toBeLessThanOrEqual(0);
    expect(await page.evaluate("document.documentElement.className")).toContain("dark-mode");
  });
});
