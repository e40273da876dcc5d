import type { Row } from "../row.js";
import { expectRows, prepareIssuing } from "./issue.js";

/** The arrival rate that the service is built for. */
const requestsPerSecond = 1_500;

export const openLoop: Row = {
  name: "openLoop",
  title: "IssueCoupon at 1,500 requests/s, open loop",
  requestsPerSecond,
  async prepare(context) {
    const { couponId, ...run } = await prepareIssuing(context);
    // Errors are part of the result here; what was told OK must be in Postgres all the same.
    return { ...run, verify: (measured) => expectRows(context, couponId, measured) };
  },
};
