// What the Node clients say to every provider, and how their parts are run.
"use strict";

const assert = require("node:assert/strict");

const SAID = "hello from node";
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const SCHEMA = {
  type: "object",
  properties: { text: { type: "string" }, numbers: { type: "array", items: { type: "integer" } } },
  required: ["text", "numbers"],
  additionalProperties: false,
};
const user = (content) => ({ role: "user", content });

// Has the next request that says "try again" fail once; the client may come again at once.
async function failOnce(emulator) {
  const fault = { status: 503, headers: { "retry-after-ms": "1" }, times: 1, match: { contains: "try again" } };
  const armed = await fetch(`${emulator}/__faults`, { method: "POST", body: JSON.stringify(fault) });
  assert.equal(armed.status, 201);
}

// Runs every part on every model of the command line: BASE_URL KEY EMULATOR MODEL...
async function run(Client, parts) {
  const [baseURL, apiKey, emulator, ...models] = process.argv.slice(2);
  const api = new Client({ baseURL, apiKey, maxRetries: 0, timeout: 30_000 });
  for (const model of models) {
    for (const part of parts) {
      await part(api, model, emulator).catch((cause) => {
        throw new Error(`${part.name} on ${model}`, { cause });
      });
    }
  }
  console.log("ok");
}

module.exports = { SAID, PICTURE, SCHEMA, user, failOnce, run };
