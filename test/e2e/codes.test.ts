import { create, type DescMethodUnary, fromJson, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, describe, expect, test } from "vitest";
import {
  CatalogService,
  DeleteCodeOutcome,
  LineProblem,
  UploadCodesRequestSchema,
} from "../../gen/coupon/v1/catalog_service_pb.js";
import { type Code, type CodeJob, CodeJobState, CodeStatus } from "../../gen/coupon/v1/code_pb.js";
import { CouponState, CouponType } from "../../gen/coupon/v1/coupon_pb.js";
import { IssuanceService } from "../../gen/coupon/v1/issuance_service_pb.js";
import { UserCouponStatus } from "../../gen/coupon/v1/user_coupon_pb.js";
import { twoReplicas } from "../support/service.js";
import { until } from "../support/until.js";
import { answerOf, callConnect, pathOf } from "./front-ends.js";
import { type CouponInit, createSample, issue, issued, readCoupon, sampleCoupon } from "./samples.js";

const { uploadCodes, generateCodes, getCodeJob, listCodeJobs, cancelCodeJob, deleteCodes, listCodes } =
  CatalogService.method;
const { deleteCoupon, updateCoupon, getCoupon, searchCoupons, listCoupons } = CatalogService.method;

const { replicas, clients } = await twoReplicas(afterAll);
const [here, there] = clients;

const newBook = (fields: CouponInit = {}) => createSample(here, { codeBook: {}, ...fields });
const soon = (ms: number) => timestampFromMs(Date.now() + ms);
const percent = (value: number) => ({ kind: { case: "percentageBasisPoints" as const, value } });

type Lines = NonNullable<Parameters<typeof create<typeof UploadCodesRequestSchema>>[1]>["lines"];
function upload(couponId: string, lines: Lines, requestId = "") {
  return here.call(uploadCodes, { target: { case: "couponId", value: couponId }, lines: lines ?? [], requestId });
}

/** A call over the Connect protocol, with its answer. */
async function callJson<M extends DescMethodUnary>(method: M, json: JsonValue): Promise<MessageShape<M["output"]>> {
  const response = await fetch(`http://127.0.0.1:${replicas[0].httpPort}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(json),
  });
  expect(response.status).toBe(200);
  return fromJson(method.output, (await response.json()) as JsonValue) as MessageShape<M["output"]>;
}

/** Both front ends must answer the same. */
async function callBoth<M extends DescMethodUnary>(
  method: M,
  request: Parameters<typeof create<M["input"]>>[1],
): Promise<MessageShape<M["output"]>> {
  const message = create(method.input, request);
  const native = await here.call(method, message as never);
  expect(await callJson(method, toJson(method.input, message))).toEqual(native);
  return native;
}

const jobOf = async (jobId: string) => (await there.call(getCodeJob, { jobId })).job!;
const ended = async (jobId: string): Promise<CodeJob> =>
  (await until("the job has ended", async () => {
    const job = await jobOf(jobId);
    return job.state === CodeJobState.RUNNING ? null : job;
  })) as CodeJob;

describe("UploadCodes", () => {
  test.for(["native gRPC", "JSON"])(
    "over %s keeps good lines, reports bad ones, and its codes are issued",
    async (way) => {
      const { id: couponId } = await newBook();
      const prefix = way === "JSON" ? "js" : "ng";
      const lines = [
        { code: `${prefix}-1` },
        { code: `${prefix.toUpperCase()} 1` },
        { code: `${prefix}-2`, terms: { discount: percent(2_500), maxUses: 3 } },
        { code: "é" },
        { code: `${prefix}-3`, terms: { maxHolders: 0 } },
      ];
      const request = create(UploadCodesRequestSchema, {
        target: { case: "couponId", value: couponId.toUpperCase() },
        lines,
        requestId: `upload ${way}`.replaceAll(" ", "-"),
      });
      const send = () =>
        way === "JSON"
          ? callJson(uploadCodes, toJson(UploadCodesRequestSchema, request))
          : here.call(uploadCodes, request);
      const answer = await send();
      expect(answer).toMatchObject({ couponId, addedCount: 2, duplicateCount: 1, invalidCount: 2 });
      expect(answer.rejectedLines.map(({ line, problem, message }) => [line, problem, message])).toEqual([
        [2, LineProblem.DUPLICATE, ""],
        [4, LineProblem.INVALID, "code: must be visible ASCII characters, and spaces between them"],
        [5, LineProblem.INVALID, "terms.max_holders: must be from 1 to 1000000"],
      ]);
      expect(await send()).toEqual(answer);
      expect(await readCoupon(there, couponId)).toMatchObject({ quantity: 2n, remainingCount: 2n, revision: 2n });

      const got = [await issued(there, couponId, "anna"), await issued(here, couponId, "bert")];
      expect(got.map(({ code }) => code).sort()).toEqual([`${prefix}-1`, `${prefix}-2`]);
      const rich = got.find(({ code }) => code === `${prefix}-2`);
      expect(rich).toMatchObject({ maxUses: 3, discount: percent(2_500) });
      expect((await answerOf(issue(here, couponId, "carl"))).reason).toBe("SOLD_OUT");

      // The gate learns of what was added to a book that it knows as sold out.
      await upload(couponId, [{ code: `${prefix}-4` }]);
      expect((await until("there is one more", () => issued(there, couponId, "carl"))).code).toBe(`${prefix}-4`);
    },
  );

  test("takes 50,000 lines in one call, names those that are bad, and adds nothing the second time", async () => {
    const book = await newBook();
    const bad = new Set([1, 2, 777, 4_096, 10_000, 25_001, 33_333, 49_998, 49_999, 50_000]);
    const lines = Array.from({ length: 50_000 }, (_, index) =>
      bad.has(index + 1)
        ? { code: `bad-${index}`, terms: { maxUses: 0 } }
        : { code: `BULK-${String(index).padStart(6, "0")}`, terms: { discount: percent(1 + (index % 10_000)) } },
    );
    const request = { target: { case: "couponId" as const, value: book.id }, lines };
    const send = async () => {
      const startedAt = performance.now();
      const answer = await here.call(uploadCodes, request, { timeoutMs: 30_000 });
      return { answer, ms: Math.round(performance.now() - startedAt) };
    };
    const first = await send();
    expect(first.answer).toMatchObject({ addedCount: 49_990, duplicateCount: 0, invalidCount: 10 });
    expect(first.answer.rejectedLines.map(({ line }) => line)).toEqual([...bad]);
    for (const { message } of first.answer.rejectedLines) expect(message).toMatch(/^terms\.max_uses: /);
    const after = await readCoupon(there, book.id);
    expect(after).toMatchObject({ quantity: 49_990n, remainingCount: 49_990n, revision: 2n });

    const second = await send();
    expect(second.answer).toMatchObject({ addedCount: 0, duplicateCount: 49_990, invalidCount: 10 });
    expect(second.answer.rejectedLines).toHaveLength(50_000);
    expect(await readCoupon(there, book.id)).toEqual(after);
    if (process.env.FAULT_SCALE) process.stdout.write(`50,000 lines: ${first.ms} ms, again ${second.ms} ms\n`);
  });

  test("is refused for unknown, deleted and ordinary coupons, and for a request id with other lines", async () => {
    const { id: plain } = await createSample(here);
    const { id: deleted } = await newBook();
    await here.call(deleteCoupon, { couponId: deleted });
    const { id: book } = await newBook();
    await upload(book, [{ code: "reuse-1" }], "reuse");
    const reasonOf = async (couponId: string, requestId = "") => {
      const json = { couponId, lines: [{ code: "refused" }], requestId };
      const { code, reason, fields } = await callConnect(
        replicas[0].httpPort,
        pathOf(uploadCodes),
        JSON.stringify(json),
      );
      const native = await answerOf(upload(couponId, [{ code: "refused" }], requestId));
      expect(native).toMatchObject({ code, reason, fields });
      return [code, reason, ...fields];
    };
    expect(await reasonOf(plain)).toEqual(["FAILED_PRECONDITION", "NOT_A_CODE_BOOK"]);
    expect(await reasonOf(deleted)).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND"]);
    expect(await reasonOf("0192f0c1-7e6a-7bcd-8123-456789abcdef")).toEqual(["NOT_FOUND", "COUPON_NOT_FOUND"]);
    expect(await reasonOf(book, "reuse")).toEqual(["INVALID_ARGUMENT", "REQUEST_ID_REUSED", "request_id"]);
  });

  test("for a type makes its pool, once", async () => {
    const terms = { discount: percent(500), expireTime: soon(3_600_000) };
    const target = { case: "type" as const, value: CouponType.MEGADEAL };
    const said = await Promise.all(
      [here, there, here, there].map((client, n) =>
        client.call(uploadCodes, { target, lines: [{ code: `mega-${n}`, terms }] }),
      ),
    );
    expect(new Set(said.map(({ couponId }) => couponId)).size).toBe(1);
    const again = await callJson(uploadCodes, { type: "COUPON_TYPE_MEGADEAL", lines: [{ code: "mega-9" }] });
    expect(again).toMatchObject({ couponId: said[0]!.couponId, addedCount: 0, invalidCount: 1 });
    expect(again.rejectedLines[0]?.message).toMatch(/^terms\.discount: .*; terms\.expire_time: /);
    expect(await readCoupon(here, again.couponId)).toMatchObject({
      ...{ name: "MEGADEAL codes", type: CouponType.MEGADEAL, typePool: true, quantity: 4n, state: CouponState.ACTIVE },
      ...{ codeBook: { exactMatch: false }, throttle: { maxConcurrent: 5, maxPerSecond: 10 } },
      description: "Codes that were uploaded for the type MEGADEAL, and for no coupon",
    });
    // Each code has its own; a search is for offers, and a pool is none.
    expect((await callBoth(getCoupon, { couponId: again.couponId })).coupon?.discount).toBeUndefined();
    const found = await here.call(searchCoupons, { type: CouponType.MEGADEAL });
    expect(found.coupons.map(({ id }) => id)).not.toContain(again.couponId);
    const listed = await here.call(listCoupons, { pageSize: 1_000 });
    expect(listed.coupons.find(({ typePool }) => typePool)).toMatchObject({ id: again.couponId });
  });

  test("for a type makes a pool that stays of its type", async () => {
    const target = { case: "type" as const, value: CouponType.STANDARD };
    const { couponId } = await here.call(uploadCodes, { target, lines: [{ code: "" }] });
    const discount = percent(1_000);
    const change = (type: CouponType, ...paths: string[]) =>
      answerOf(
        here.call(updateCoupon, {
          coupon: { id: couponId, type, name: "n", discount },
          updateMask: { paths: ["type", "name", ...paths] },
        }),
      );
    expect(await change(CouponType.FREE)).toMatchObject({ reason: "INVALID_FIELD", fields: ["coupon.type"] });
    // It has none: that of each code counts.
    expect(await change(CouponType.STANDARD, "discount")).toMatchObject({
      reason: "INVALID_FIELD",
      fields: ["coupon.discount"],
    });
    expect(await change(CouponType.STANDARD)).toMatchObject({ code: "OK" });
  });

  test("of codes with an end of their own: they leave the stock when it has come", async () => {
    const { id: couponId } = await newBook();
    await upload(couponId, [{ code: "brief", terms: { expireTime: soon(4_000), maxHolders: 3 } }, { code: "lasting" }]);
    expect(await readCoupon(here, couponId)).toMatchObject({ quantity: 4n });
    const coupon = await until("it has left", async () => {
      const now = await readCoupon(here, couponId);
      return now.quantity === 1n && now;
    });
    expect(coupon).toMatchObject({ remainingCount: 1n, revision: 3n });
    const { codes } = await callBoth(listCodes, { couponId });
    expect(codes.map(({ status }) => status)).toEqual([CodeStatus.EXPIRED, CodeStatus.FREE]);
    for (const [index, status] of [CodeStatus.EXPIRED, CodeStatus.FREE].entries())
      expect((await callBoth(listCodes, { couponId, statuses: [status] })).codes).toEqual([codes[index]]);
  });
});

test("what expires first of a type is issued at once by the replica that it came to, and soon by the others", async () => {
  const type = CouponType.FREE;
  let users = 0;
  const issueByType = async (client: typeof here) => {
    const request = { target: { case: "type" as const, value: type }, userId: `by-type-${users++}` };
    return (await client.call(IssuanceService.method.issueCoupon, request)).userCoupon?.couponId;
  };
  const ends = (hours: number) => ({ type, expireTime: soon(hours * 3_600_000) });
  const { id: late } = await createSample(here, ends(100));
  for (const client of clients) await until("it is found", async () => (await issueByType(client)) === late);
  let first = late;
  // Each is known before it is issued, though the list of those before was read a moment ago.
  const changes: (() => Promise<string>)[] = [
    async () => (await createSample(here, ends(90))).id,
    async () => {
      const { outcomes } = await here.call(CatalogService.method.batchCreateCoupons, {
        coupons: [sampleCoupon(ends(80))],
      });
      return (outcomes[0]!.outcome.value as { id: string }).id;
    },
    async () => {
      const { id } = await createSample(here);
      await here.call(updateCoupon, { coupon: { id, ...ends(2) }, updateMask: { paths: ["type", "expire_time"] } });
      return id;
    },
    async () => {
      const { id } = await newBook(ends(1));
      await upload(
        id,
        Array.from({ length: 200 }, (_, n) => ({ code: `by-type-${n}` })),
      );
      return id;
    },
  ];
  for (const change of changes) {
    expect(await issueByType(here)).toBe(first);
    first = await change();
    expect(await issueByType(here)).toBe(first);
    await until("the other replica knows it", async () => (await issueByType(there)) === first);
  }
});

describe("GenerateCodes", () => {
  test("answers at once with a job that goes on; all of its codes can be issued", async () => {
    const { id: couponId } = await newBook();
    const request = { couponId, pattern: "RIDE-*{4}-[2-9A-HJ-NP-Z]{4}", count: 300, requestId: "ride" };
    const { job } = await here.call(generateCodes, request);
    expect(job).toMatchObject({
      couponId,
      pattern: request.pattern,
      count: 300,
      state: CodeJobState.RUNNING,
      failure: "",
    });
    expect(job!.endTime).toBeUndefined();
    const done = await ended(job!.id);
    expect(done).toMatchObject({ ...job, madeCount: 300, state: CodeJobState.DONE, endTime: done.endTime! });
    expect(timestampMs(done.endTime!)).toBeGreaterThanOrEqual(timestampMs(done.createTime!));
    expect((await callBoth(generateCodes, request)).job).toEqual(done);
    expect((await callBoth(getCodeJob, { jobId: job!.id.toUpperCase() })).job).toEqual(done);
    const { codes } = await here.call(listCodes, { couponId, pageSize: 1_000 });
    expect(codes.length).toBe(300);
    expect(codes.every(({ code }) => /^RIDE-[A-Z0-9]{4}-[2-9A-HJ-NP-Z]{4}$/.test(code))).toBe(true);
    expect(await readCoupon(there, couponId)).toMatchObject({ quantity: 300n, remainingCount: 300n });
    const { code } = await until("the gate knows", () => issued(there, couponId, "anna"));
    expect(codes.map((one) => one.code)).toContain(code);
    const { codes: after } = await here.call(listCodes, { couponId, pageSize: 1_000 });
    expect(after.filter(({ status }) => status === CodeStatus.ISSUED).map((one) => one.code)).toEqual([code]);
    const { ISSUED, FREE, USED, EXPIRED } = CodeStatus;
    const listed = (request: object) => callBoth(listCodes, { couponId, ...request });
    expect((await listed({ statuses: [ISSUED] })).codes).toEqual(after.filter(({ status }) => status === ISSUED));
    expect((await listed({ statuses: [FREE], pageSize: 1_000 })).codes.length).toBe(299);
    expect(await listed({ statuses: [USED, EXPIRED] })).toMatchObject({ codes: [], nextPageToken: "" });
    const { nextPageToken: pageToken } = await listed({ statuses: [FREE, USED], pageSize: 200 });
    expect((await listed({ statuses: [USED, FREE], pageSize: 200, pageToken })).codes.length).toBe(99);
    for (const statuses of [[], [FREE], [FREE, ISSUED]])
      expect((await answerOf(listed({ statuses, pageToken }))).fields).toEqual(["page_token"]);
    for (const statuses of [[FREE, FREE], [CodeStatus.UNSPECIFIED], [99]])
      expect((await answerOf(listed({ statuses }))).fields).toEqual([expect.stringMatching(/^statuses/)]);
  });

  test("fails when codes are in the way, and when its coupon is deleted", async () => {
    const { id: couponId } = await newBook({ codeBook: { exactMatch: true } });
    await upload(couponId, [{ code: "F7" }]);
    const { job } = await callJson(generateCodes, { couponId, pattern: "F#", count: 10 });
    expect(await ended(job!.id)).toMatchObject({
      ...{ state: CodeJobState.FAILED, madeCount: 9, failure: "the pattern has no more codes that are not taken" },
    });
    expect(await readCoupon(here, couponId)).toMatchObject({ quantity: 10n });
    const long = (await here.call(generateCodes, { couponId, pattern: "*{20}", count: 1_000_000 })).job!;
    await here.call(deleteCoupon, { couponId });
    expect(await ended(long.id)).toMatchObject({ state: CodeJobState.FAILED, failure: "the coupon was deleted" });
  });

  test("is refused for unknown, deleted and ordinary coupons; jobs that are unknown are not found", async () => {
    const { id: plain } = await createSample(here);
    const { id: deleted } = await newBook();
    await here.call(deleteCoupon, { couponId: deleted });
    const unknown = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
    const refusals = async (couponId: string) => [
      (await answerOf(here.call(generateCodes, { couponId, pattern: "#", count: 1 }))).reason,
      (await answerOf(here.call(listCodes, { couponId }))).reason,
    ];
    expect(await refusals(plain)).toEqual(["NOT_A_CODE_BOOK", "NOT_A_CODE_BOOK"]);
    expect(await refusals(deleted)).toEqual(["COUPON_NOT_FOUND", "COUPON_NOT_FOUND"]);
    expect(await refusals(unknown)).toEqual(["COUPON_NOT_FOUND", "COUPON_NOT_FOUND"]);
    const answer = await callConnect(replicas[0].httpPort, pathOf(getCodeJob), JSON.stringify({ jobId: unknown }));
    expect(answer).toMatchObject({ code: "NOT_FOUND", reason: "CODE_JOB_NOT_FOUND" });
    const { code, reason } = await answerOf(here.call(getCodeJob, { jobId: unknown }));
    expect([code, reason]).toEqual([answer.code, answer.reason]);
  });
});

describe("CancelCodeJob and ListCodeJobs", () => {
  test("end a job whose codes stay, and list it", async () => {
    const { id: couponId } = await newBook();
    const { job } = await here.call(generateCodes, { couponId, pattern: "C-*{20}", count: 1_000_000 });
    const { job: cancelled } = await there.call(cancelCodeJob, { jobId: job!.id, requestId: "stop" });
    expect(cancelled).toMatchObject({ id: job!.id, state: CodeJobState.CANCELLED, failure: "it was cancelled" });
    expect(cancelled!.madeCount).toBeLessThan(1_000_000);
    for (const request of [{ jobId: job!.id, requestId: "stop" }, { jobId: job!.id.toUpperCase() }])
      expect((await callBoth(cancelCodeJob, request)).job).toEqual(cancelled);
    expect(await readCoupon(here, couponId)).toMatchObject({ quantity: BigInt(cancelled!.madeCount) });
    const { job: small } = await here.call(generateCodes, { couponId, pattern: "S-*{20}", count: 1 });
    const done = await ended(small!.id);
    expect(await callBoth(listCodeJobs, { couponId: couponId.toUpperCase() })).toMatchObject({
      jobs: [done, cancelled],
    });
    const [{ CANCELLED, DONE }, list] = [CodeJobState, (more: object) => callBoth(listCodeJobs, { couponId, ...more })];
    expect((await list({ states: [CANCELLED] })).jobs).toEqual([cancelled]);
    const { jobs, nextPageToken: pageToken } = await list({ states: [DONE, CANCELLED], pageSize: 1 });
    expect(jobs).toEqual([done]);
    expect(await list({ states: [CANCELLED, DONE], pageToken })).toMatchObject({
      jobs: [cancelled],
      nextPageToken: "",
    });
    expect((await answerOf(list({ pageToken }))).fields).toEqual(["page_token"]);
    expect((await callBoth(listCodeJobs, { pageSize: 1 })).jobs).toEqual([done]);
    const unknown = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
    const answer = await callConnect(replicas[0].httpPort, pathOf(cancelCodeJob), JSON.stringify({ jobId: unknown }));
    const native = await answerOf(here.call(cancelCodeJob, { jobId: unknown }));
    expect([answer.reason, native.reason]).toEqual(["CODE_JOB_NOT_FOUND", "CODE_JOB_NOT_FOUND"]);
  });
});

describe("DeleteCodes", () => {
  const { DELETED, NOT_FOUND, TAKEN } = DeleteCodeOutcome;

  test.for(["native gRPC", "JSON"])("over %s takes named codes back, and they can be added elsewhere", async (way) => {
    const prefix = way === "JSON" ? "dj" : "dn";
    const call = <M extends DescMethodUnary>(method: M, json: JsonValue) =>
      way === "JSON" ? callJson(method, json) : here.call(method, fromJson(method.input, json) as never);
    const [{ id: couponId }, { id: other }] = [await newBook(), await newBook()];
    const names = [1, 2, 3].map((n) => `${prefix}-${n}`);
    await upload(
      couponId,
      names.map((code) => ({ code })),
    );
    const { code: taken } = await issued(there, couponId, "anna");
    const codes = [...names, "unknown"];
    const json = { couponId, codes, requestId: `delete-${prefix}` };
    const answer = await call(deleteCodes, json);
    const outcomes = [...names.map((name) => (name === taken ? TAKEN : DELETED)), NOT_FOUND];
    expect(answer).toMatchObject({ couponId, deletedCount: 2, takenCount: 1, outcomes, nextPageToken: "" });
    expect(await call(deleteCodes, json)).toEqual(answer);
    expect(await readCoupon(there, couponId)).toMatchObject({ quantity: 1n, remainingCount: 0n });
    // The gate knows, on both replicas.
    for (const client of clients) expect((await answerOf(issue(client, couponId, "bert"))).reason).toBe("SOLD_OUT");
    expect(
      await upload(
        other,
        names.map((code) => ({ code })),
      ),
    ).toMatchObject({ addedCount: 2, duplicateCount: 1 });
  });

  test("takes back an upload, and what a job has made, step by step", async () => {
    const { id: couponId } = await newBook();
    const mine = Array.from({ length: 7_000 }, (_, n) => ({ code: `STEP-${n}` }));
    const { uploadId } = await upload(couponId, mine);
    const { uploadId: otherId } = await upload(couponId, [{ code: "STAYS" }]);
    expect((await upload(couponId, [{ code: "STAYS" }])).uploadId).toBe("");
    const { job } = await here.call(generateCodes, { couponId, pattern: "JOB-*{20}", count: 30 });
    await ended(job!.id);
    const step = (pageToken: string) =>
      callBoth(deleteCodes, { ...ofUpload(uploadId), pageToken, requestId: `s${pageToken.slice(0, 40)}` });
    const ofUpload = (id: string) => ({
      target: { case: "couponId" as const, value: couponId },
      source: { case: "uploadId" as const, value: id.toUpperCase() },
    });
    const first = await step("");
    expect(first).toMatchObject({ couponId, deletedCount: 5_000, takenCount: 0, outcomes: [] });
    const second = await step(first.nextPageToken);
    expect(second).toMatchObject({ deletedCount: 2_000, nextPageToken: "" });
    expect(await readCoupon(there, couponId)).toMatchObject({ quantity: 31n });
    expect(
      (await answerOf(here.call(deleteCodes, { ...ofUpload(otherId), pageToken: first.nextPageToken }))).fields,
    ).toEqual(["page_token"]);
    expect((await answerOf(here.call(deleteCodes, ofUpload(job!.id)))).reason).toBe("CODE_UPLOAD_NOT_FOUND");
    const ofJob = { target: ofUpload("").target, source: { case: "jobId" as const, value: job!.id } };
    expect(await here.call(deleteCodes, ofJob)).toMatchObject({ deletedCount: 30, nextPageToken: "" });
    const { codes } = await callBoth(listCodes, { couponId });
    expect(codes.map(({ code }) => code)).toEqual(["STAYS"]);
    const unknown = "0192f0c1-7e6a-7bcd-8123-456789abcdef";
    const answer = await callConnect(
      replicas[0].httpPort,
      pathOf(deleteCodes),
      JSON.stringify({ couponId, uploadId: unknown }),
    );
    expect(answer).toMatchObject({ code: "NOT_FOUND", reason: "CODE_UPLOAD_NOT_FOUND" });
    expect((await answerOf(here.call(deleteCodes, ofUpload(unknown)))).reason).toBe("CODE_UPLOAD_NOT_FOUND");
  });
});

describe("ListCodes", () => {
  test("shows codes in the order of their upload, page by page, with their terms and who holds them", async () => {
    const { id: couponId } = await newBook();
    const expireTime = soon(3_600_000);
    const terms = { discount: percent(5_000), expireTime, maxUses: 2, maxHolders: 12 };
    await upload(couponId, [{ code: "page-z", terms }, { code: "page-a" }, { code: "page-m" }]);
    await upload(couponId, [{ code: "page-b" }]);
    const { codes, nextPageToken } = await callBoth(listCodes, { couponId });
    expect(nextPageToken).toBe("");
    expect(codes.map(({ code }) => code)).toEqual(["page-z", "page-a", "page-m", "page-b"]);
    expect(codes[0]).toMatchObject({ couponId, terms, status: CodeStatus.FREE, holderCount: 0, holders: [] });
    expect(codes[1]?.terms).toMatchObject({ maxHolders: 1 });
    expect(codes[1]?.terms?.discount ?? codes[1]?.terms?.expireTime ?? codes[1]?.terms?.maxUses).toBeUndefined();

    for (let n = 0; n < 15; n++) await until("the gate knows", () => issued(here, couponId, `user-${n}`));
    const all: Code[] = [];
    let pageToken = "";
    for (const size of [1, 2, 1]) {
      const page = await callBoth(listCodes, { couponId, pageSize: size, pageToken });
      expect(page.codes.length).toBe(size);
      all.push(...page.codes);
      pageToken = page.nextPageToken;
    }
    expect(pageToken).toBe("");
    expect(all.map(({ code }) => code)).toEqual(codes.map(({ code }) => code));
    expect(all.map(({ holderCount, holders }) => [holderCount, holders.length])).toEqual([
      [12, 10],
      [1, 1],
      [1, 1],
      [1, 1],
    ]);
    expect(all.every(({ status }) => status === CodeStatus.ISSUED)).toBe(true);
    expect(all.every(({ holders }) => holders.every(({ status }) => status === UserCouponStatus.READY))).toBe(true);
    const { nextPageToken: foreign } = await here.call(listCodes, { couponId, pageSize: 1 });
    const { id: other } = await newBook();
    expect(await answerOf(here.call(listCodes, { couponId: other, pageToken: foreign }))).toMatchObject({
      ...{ reason: "INVALID_FIELD", fields: ["page_token"] },
    });
  });
});
