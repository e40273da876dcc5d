import { holders } from "../holders/holders.js";
import { hostile } from "../hostile/hostile.js";
import { overload } from "../overload/overload.js";
import type { OwnBench } from "../own-bench.js";
import type { Row } from "../row.js";
import { bare } from "./bare.js";
import { issue } from "./issue.js";
import { list, listCold } from "./list.js";
import { noop } from "./noop.js";
import { openLoop } from "./open-loop.js";
import { soldOut } from "./sold-out.js";
import { use } from "./use.js";

/** In the order in which each round runs them. The first is what the ratios of the others refer to. */
export const rows: readonly Row[] = [noop, bare, issue, soldOut, use, list, listCold, openLoop];

/** What has servers and a report of its own. */
export const ownBenches: readonly OwnBench[] = [overload, hostile, holders];
