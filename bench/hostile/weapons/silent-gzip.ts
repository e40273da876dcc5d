import { setTimeout as sleep } from "node:timers/promises";
import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { pathOf } from "../../support/api.js";
import { callHeaders, flag, frame, frameType, RawConnection } from "../frames.js";
import { Gun } from "../shots.js";
import type { Weapon } from "../weapon.js";

const streams = 20;
/** Of gzip, which may become a thousand times as much. */
const sentBytes = 12 * 1_024;
const uploadBytes = 8 * 1_024 * 1_024 - 1_024;
const uploads = 3;

const path = pathOf(CatalogService.method.batchCreateCoupons);

export const silentGzip: Weapon = {
  name: "silent-gzip",
  what: `native gRPC: ${streams} streams that declare gzip, send ${sentBytes} bytes and nothing more, before others upload 8 MiB`,
  async fire(field) {
    const headers = callHeaders(path, "application/grpc", { "grpc-encoding": "gzip" });
    // The envelope says that more is to come.
    const envelope = Buffer.alloc(5 + sentBytes);
    envelope[0] = 1;
    envelope.writeUInt32BE(sentBytes * 2, 1);
    // A coupon that is refused, and blanks in it: what it costs is its size.
    const message = Buffer.from(`{"coupons":[{}]${" ".repeat(uploadBytes - 16)}}`);
    await field.begin();
    const silent = await RawConnection.open(field.grpcPort);
    for (let stream = 0; stream < streams; stream += 1) {
      const id = 1 + 2 * stream;
      silent.write(frame(frameType.headers, flag.endHeaders, id, headers));
      silent.write(frame(frameType.data, 0, id, envelope));
    }
    await sleep(Math.max(0, field.untilMs - Date.now()));
    // Only now: a message of this size takes its time, and the bystander's calls are to show what the silent ones do.
    const gun = new Gun(field);
    let refused = 0;
    for (let upload = 0; upload < uploads; upload += 1) {
      const outcome = await gun.connect(path, "application/json", message);
      field.tally.add(outcome);
      if (outcome !== "OK") refused += 1;
    }
    gun.close();
    silent.destroy();
    if (refused > 0) field.miss(`${refused} uploads of 8 MiB were refused`);
  },
};
