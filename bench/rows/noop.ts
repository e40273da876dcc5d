import { expectOnly, type Row } from "../row.js";
import { issueMethod, issueRequests } from "./coupons.js";

export const noop: Row = {
  name: "noop",
  title: "no-op RPC through the whole front end: the ceiling",
  async prepare({ frontEndTarget, maxCalls }) {
    return {
      target: frontEndTarget,
      method: issueMethod,
      messages: issueRequests(crypto.randomUUID(), maxCalls),
      verify: async (measured) => expectOnly(measured, "OK"),
    };
  },
};
