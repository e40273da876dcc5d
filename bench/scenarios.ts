import { overload } from "./overload/overload.js";
import type { Scenario } from "./scenario.js";

/** In the order in which they run, after the rows. */
export const scenarios: readonly Scenario[] = [overload];
