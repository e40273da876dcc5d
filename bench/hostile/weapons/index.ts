import type { Weapon } from "../weapon.js";
import { bigList } from "./big-list.js";
import { closedTogether } from "./closed-together.js";
import { hostBracket, splitPreface } from "./http1.js";
import { bigLoads, nulCode, unknownCoupons } from "./issuing.js";
import { messageWeapons } from "./messages.js";
import { nothing } from "./nothing.js";
import { rapidReset } from "./rapid-reset.js";
import { silentGzip } from "./silent-gzip.js";
import { slowBody } from "./slow-body.js";
import { unfinishedStreams } from "./unfinished-streams.js";
import { cancelledUsages, plainUses, refusedUses } from "./using.js";

/** In the order in which they are fired. Those that leave much behind in the stores come last. */
export const weapons: readonly Weapon[] = [
  nothing,
  ...messageWeapons,
  nulCode,
  rapidReset,
  ...unfinishedStreams,
  closedTogether,
  silentGzip,
  hostBracket,
  splitPreface,
  slowBody,
  ...unknownCoupons,
  plainUses,
  refusedUses,
  cancelledUsages,
  bigList,
  bigLoads,
];
