import { type Contract, unaryMethods } from "./descriptors.js";
import { addErrorSchemas, detailSchemas, errorInfo, statusRef } from "./errors.js";
import type { Examples } from "./examples.js";
import { errorExamples, type Operation, Operations } from "./operations.js";
import { refusalsOf } from "./refusals.js";
import type { Json } from "./rules.js";
import { Schemas } from "./schemas.js";

const overview = `Every method is served in two forms, by the same code with the same checks: as REST, and by the Connect protocol as
\`POST /coupon.v1.<Service>/<Method>\` with the request as JSON (tags with "(Connect)"). gRPC has them on a port of its own.

**Who calls.** Where the service asks (\`AUTH\`), send \`Authorization: Bearer\` with an API key or a JSON Web Token, or come with a
client certificate. Each method names the scope that it asks for.

**JSON.** As proto3 writes it: 64-bit numbers are texts, times are RFC 3339, durations are seconds with an "s", enums are words. What
has its default is left out of answers. A request with a field that is not known is refused.

**Refusals.** Each carries ${errorInfo}, and programs switch on its \`reason\`; messages are for people. Bad input names
each field that is wrong. Where the same request can succeed later, a RetryInfo says when.

**Retries.** Methods that change something take a \`requestId\`: a repeated call gets the first one's answer. Send the same one again
after UNAVAILABLE and DEADLINE_EXCEEDED.

**Pages.** Lists take \`pageSize\` and \`pageToken\`, and answer \`nextPageToken\`, which is empty on the last page. All other fields
must stay as they were for the page before. A page may be short, or empty, and still not be the last one.`;

/** The OpenAPI document of a contract. The same contract always makes the same text. */
export function openApiOf(contract: Contract, examples: Examples, version: string): Json {
  const methods = unaryMethods(contract);
  const schemas = new Schemas(contract, [...methods.map(({ output }) => output), ...detailSchemas]);
  addErrorSchemas(schemas);
  const operations = new Operations(contract, schemas, examples);
  const rest = methods.flatMap((method) => operations.rest(method));
  const connect = methods.map((method) => operations.connect(method));
  const told = new Set(methods.flatMap((method) => refusalsOf(contract, method)));
  const tags = contract.services.map((service) => ({ name: service.name, description: contract.commentOf(service) }));
  const connectTags = tags.map(({ name }) => ({
    name: `${name} (Connect)`,
    description: `${name} by the Connect protocol.`,
  }));
  return {
    openapi: "3.1.0",
    info: {
      title: "Coupon service",
      version,
      summary: "Issues coupons, first come, first served, and never one too many.",
      description: overview,
    },
    servers: [{ url: "/", description: "Where this document came from." }],
    tags: [...tags, ...connectTags],
    "x-tagGroups": [
      { name: "REST", tags: tags.map(({ name }) => name) },
      { name: "Connect", tags: connectTags.map(({ name }) => name) },
    ],
    security: [{}, { bearer: [] }, { certificate: [] }],
    paths: pathsOf([...rest, ...connect]),
    components: {
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          description: "An API key (`ck_...`), or a JSON Web Token of the issuer that the service trusts.",
        },
        certificate: {
          type: "mutualTLS",
          description: "A client certificate of an authority that the service trusts.",
        },
      },
      parameters: {
        requestId: {
          name: "X-Request-Id",
          in: "header",
          description:
            "Under which the call is in the log: 1 to 128 visible ASCII characters. Without one, or with one that is none, it is made up.",
          schema: { type: "string" },
        },
        timeout: {
          name: "Connect-Timeout-Ms",
          in: "header",
          description:
            "How long the caller waits, in ms. What would be done later is not done at all. A longer one than the service allows is cut.",
          schema: { type: "integer", minimum: 1, maximum: 9_999_999_999 },
        },
      },
      headers: {
        retryAfter: {
          description: "After how many seconds to repeat the call.",
          schema: { type: "integer", minimum: 0 },
        },
        challenge: { description: "`Bearer`", schema: { type: "string" } },
      },
      responses: {
        "rest.415": {
          description: "The body is neither JSON nor compressed as it may be (gzip).",
          content: { "application/json": { schema: statusRef } },
        },
        "connect.415": {
          description: "The content type is none that is served here; a line of text says which are.",
          content: { "text/plain": { schema: { type: "string" } } },
        },
      },
      examples: errorExamples(contract, told),
      schemas: schemas.components,
    },
  };
}

function pathsOf(operations: readonly Operation[]): Json {
  const paths: Record<string, Json> = {};
  const ids = new Set<unknown>();
  for (const { path, verb, operation } of operations) {
    const at = paths[path] ?? {};
    paths[path] = at;
    if (verb in at || ids.has(operation.operationId)) throw new Error(`${verb} ${path} is there twice`);
    ids.add(operation.operationId);
    at[verb] = operation;
  }
  return paths;
}
