import { CatalogService } from "../../../gen/coupon/v1/catalog_service_pb.js";
import { IssuanceService } from "../../../gen/coupon/v1/issuance_service_pb.js";
import { UsageService } from "../../../gen/coupon/v1/usage_service_pb.js";
import { closedLoop } from "../loops.js";
import { Gun, type Shot, shot } from "../shots.js";
import type { Weapon } from "../weapon.js";

/** Messages that are small on the wire and dear to build. */

const { uploadCodes, batchCreateCoupons } = CatalogService.method;
const { batchIssueCoupons } = IssuanceService.method;
const { useCoupons } = UsageService.method;

/** What the methods take, less a little for what stands around. */
const bulkBytes = 8 * 1_024 * 1_024 - 1_024;
const usersBytes = 1_024 * 1_024 - 1_024;
const ordinaryBytes = 64 * 1_024 - 64;
/** Four million `[`, and as many `]`. */
const brackets = 4_000_000;
/** One message after the other, and so many a second at most: more would measure how fast the client is. */
const pauseMs = 200;

const id = "01a1fbca-1398-75c3-8edb-0d6444d7fc82";
const tag = (field: number, wireType: number) => varint(field * 8 + wireType);
const couponId = Buffer.concat([tag(1, 2), Buffer.from([id.length]), Buffer.from(id)]);

export const messageWeapons: readonly Weapon[] = [
  weaponOf(
    "upload-json-gzip",
    "UploadCodes as JSON, gzip, with 2.8 million `{}` for lines; then the last one is wrong",
    () => {
      const lines = elements("{}", bulkBytes);
      return ["", ',{"wrong":1}'].map((last) =>
        shot("Connect JSON", uploadCodes, `{"couponId":"${id}","lines":[${lines}${last}]}`),
      );
    },
  ),
  weaponOf(
    "upload-binary-gzip",
    "the same with 4.2 million empty lines in binary, over native gRPC and Connect",
    () => {
      const message = Buffer.concat([couponId, repeated(Buffer.concat([tag(3, 2), varint(0)]), bulkBytes)]);
      return [shot("gRPC", uploadCodes, message), shot("Connect", uploadCodes, message)];
    },
  ),
  weaponOf("create-json-gzip", "BatchCreateCoupons as JSON, gzip, with 2.8 million `{}` for coupons", () => [
    shot("Connect JSON", batchCreateCoupons, `{"coupons":[${elements("{}", bulkBytes)}]}`),
  ]),
  weaponOf(
    "create-binary-gzip",
    "the same with 4.2 million empty coupons in binary, over native gRPC and Connect",
    () => {
      const message = repeated(Buffer.concat([tag(1, 2), varint(0)]), bulkBytes);
      return [shot("gRPC", batchCreateCoupons, message), shot("Connect", batchCreateCoupons, message)];
    },
  ),
  weaponOf(
    "batch-empty-users",
    "BatchIssueCoupons, gzip, with 524,000 empty user ids, over native gRPC and Connect",
    () => {
      const message = Buffer.concat([couponId, repeated(Buffer.concat([tag(2, 2), varint(0)]), usersBytes)]);
      return [shot("gRPC", batchIssueCoupons, message), shot("Connect", batchIssueCoupons, message)];
    },
  ),
  weaponOf("brackets", "UploadCodes as JSON, gzip: 4 million brackets that are opened and closed again", () => [
    shot("Connect JSON", uploadCodes, "[".repeat(brackets) + "]".repeat(brackets)),
  ]),
  weaponOf(
    "empty-choices",
    "UseCoupons, 99 bytes of gzip that become 64 KiB of empty choices, over native gRPC and Connect",
    () => {
      const message = repeated(Buffer.concat([tag(2, 2), varint(0)]), ordinaryBytes);
      return [shot("gRPC", useCoupons, message), shot("Connect", useCoupons, message)];
    },
  ),
  weaponOf(
    "unknown-fields",
    "UploadCodes, gzip: millions of unknown numbers, of empty groups, and of groups in groups",
    () => {
      const numbers = repeated(Buffer.concat([tag(15, 0), varint(1)]), bulkBytes);
      const groups = repeated(Buffer.concat([tag(15, 3), tag(15, 4)]), bulkBytes);
      const [open, close] = [tag(15, 3), tag(15, 4)];
      const nested = Buffer.concat([repeated(open, bulkBytes / 2), repeated(close, bulkBytes / 2)]);
      return [numbers, groups, nested].flatMap((message) => [
        shot("gRPC", uploadCodes, message),
        shot("Connect", uploadCodes, message),
      ]);
    },
  ),
];

/** One that sends its shots in turn, at least once each, and tells how long the slowest answer of each took. */
function weaponOf(name: string, what: string, load: () => Shot[]): Weapon {
  return {
    name,
    what,
    async fire(field) {
      const shots = load();
      const slowestMs = shots.map(() => 0);
      const gun = new Gun(field);
      const fireOne = async (index: number) => {
        const sentAtMs = performance.now();
        const outcome = await gun.fire(shots[index]!);
        slowestMs[index] = Math.max(slowestMs[index]!, performance.now() - sentAtMs);
        return outcome;
      };
      let next = 0;
      await field.begin();
      await closedLoop(field, 1, () => fireOne(next++ % shots.length), pauseMs);
      while (next < shots.length) field.tally.add(await fireOne(next++));
      gun.close();
      for (const [index, { way, bytes, gzipped }] of shots.entries()) {
        const [size, tookMs] = [`${gzipped.length} bytes for ${bytes}`, Math.round(slowestMs[index]!)];
        field.note(`${way}, ${size}: answered within ${tookMs} ms`);
      }
    },
  };
}

function elements(element: string, bytes: number): string {
  const more = Math.floor(bytes / (element.length + 1)) - 1;
  return element + `,${element}`.repeat(more);
}

function repeated(part: Buffer, bytes: number): Buffer {
  const count = Math.floor(bytes / part.length);
  return Buffer.alloc(count * part.length, part);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Buffer.from([...bytes, rest]);
}
