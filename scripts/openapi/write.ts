/** Writes the OpenAPI document: `node dist/scripts/openapi/write.js <image of buf> <target>`. Part of the build. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/platform/package-root.js";
import { readContract } from "./descriptors.js";
import { openApiOf } from "./document.js";
import { readExamples } from "./examples.js";

const [image, target] = process.argv.slice(2);
if (!image || !target) throw new Error("needs an image of buf and a target");
const root = packageRoot();
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const document = openApiOf(readContract(image), readExamples(join(root, "scripts/openapi/examples.json")), version);
writeFileSync(`${target}.new`, `${JSON.stringify(document)}\n`);
renameSync(`${target}.new`, target);
