import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { packageRoot } from "../../src/platform/package-root.js";

/** Folders of test, those whose files take longest before the others: what is long and begins last, all wait for. */
const order = ["faults", "model", "e2e", "integration", "conformance", "unit", "tidy"];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const folder = relative(packageRoot(), moduleId).split(/[\\/]/)[1] ?? "";
      return order.includes(folder) ? order.indexOf(folder) : -1;
    };
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}
