import { Queues } from "../../src/batching/queues.js";
import { anybody, type Principal } from "../../src/domain/principal.js";
import type { Refusal } from "../../src/domain/refusal.js";
import { GateKeeper } from "../../src/issuing/gate-keeper.js";
import { CodeGenerator } from "../../src/jobs/code-generator.js";
import { RefusalRecorder } from "../../src/jobs/refusal-recorder.js";
import { FailureLog } from "../../src/platform/failure-log.js";
import { Metrics } from "../../src/platform/metrics.js";
import { QuotaDays } from "../../src/platform/quotas/quota-days.js";
import { MemoryGate } from "../../src/reservation/memory/memory-gate.js";
import { openDatabase } from "../../src/storage/postgres/database.js";
import { ConnectServer } from "../../src/transport/connect/connect-server.js";
import { GrpcServer } from "../../src/transport/grpc/grpc-server.js";
import { maxConnections } from "../../src/transport/http2-limits.js";
import { ArrivalDeadlines } from "../../src/transport/messages/arrival-deadlines.js";
import { LargeMessages } from "../../src/transport/messages/large-messages.js";
import { LoadShedder } from "../../src/transport/overload/load-shedder.js";
import { Pipeline } from "../../src/transport/pipeline.js";
import { messageValidator } from "../../src/transport/validator.js";
import { boundsOf } from "../../src/wiring/bounds.js";
import { openEngines } from "../../src/wiring/engines.js";
import { openFollowing } from "../../src/wiring/following.js";
import { mountRpcs } from "../../src/wiring/rpcs.js";
import { openStores } from "../../src/wiring/stores.js";
import { GrpcClient } from "../support/clients.js";
import { createStores } from "../support/stores.js";

/** Both front ends on a Postgres of their own, in this process: a test says who calls. */
export async function startFrontEnds() {
  const stored = await createStores();
  const database = openDatabase({ url: stored.databaseUrl, poolSize: 12 });
  const stores = openStores(database, "UTC");
  const log = { info: () => {}, warn: () => {}, error: (details: object) => console.error(details) };
  const failures = new FailureLog({ log });
  const metrics = new Metrics();
  const clock = { nowMs: Date.now };
  const quotaDays = new QuotaDays("UTC");
  const quotaGroupOf = (couponId: string) => stores.issues.quotaGroupOf(couponId);
  const gate = new MemoryGate({ quotaDays, quotaGroupOf });
  const keeper = new GateKeeper(gate, stores.issues, stores.usages, log, failures);
  const queues = new Queues({ onBatch: () => {}, onAfterCommitError: (queue, error) => failures.failed(queue, error) });
  const engines = openEngines({
    ...{ stores, gate, keeper, quotaDays, clock, failures, reservationMs: 5_000 },
    ...{ openQueue: queues.open, batches: boundsOf(12).batches },
  });
  const recorder = new RefusalRecorder({ store: stores.audit, clock, failures, onDropped: () => {} });
  const codeGenerator = new CodeGenerator(stores.codes, keeper, log, failures);
  const validator = messageValidator();
  const caller: { principal: Principal | Refusal } = { principal: anybody };
  const pipeline = new Pipeline({
    ...{ log, metrics, validator, isServing: () => true, defaultDeadlineMs: 15_000, maxDeadlineMs: 30_000 },
    authenticator: { authenticate: () => caller.principal },
    onRefused: (refused) => recorder.add(refused),
  });
  const routes = mountRpcs({
    stores,
    engines,
    following: openFollowing(stores.events, 10, failures, metrics),
    keeper,
    codeGenerator,
    pipeline,
    validator,
    failures,
    clock,
    auth: { catchUp: async () => {} },
    wrongCodes: undefined,
  });
  const loadShedder = new LoadShedder({ maxAtWork: 100, maxConnections, isServing: () => true, metrics, log });
  const messages = [new LargeMessages(), new ArrivalDeadlines()] as const;
  const grpc = new GrpcServer(routes, ...messages, loadShedder, () => {});
  const connect = new ConnectServer(
    routes,
    ...messages,
    () => false,
    loadShedder,
    () => {},
  );
  const client = new GrpcClient(await grpc.listen("127.0.0.1", 0));
  const httpPort = await connect.listen("127.0.0.1", 0);
  return {
    caller,
    client,
    httpPort,
    /** Puts the refusals so far on record. */
    recordRefused: () => recorder.run(),
    close: async () => {
      client.close();
      await Promise.all([grpc.close(1_000), connect.close(1_000)]);
      loadShedder.close();
      await queues.drain();
      await codeGenerator.stop();
      await keeper.close();
      await gate.close();
      await database.close();
      await stored.drop();
    },
  };
}
