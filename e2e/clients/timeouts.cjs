// What the official clients for Node make of answers that do not come in time.
//
// usage: timeouts.cjs BASE_URL KEY MODEL...
//
// The provider takes a minute to answer whoever says `take your time`. Prints `ok` when everything holds for every model.
"use strict";

const assert = require("node:assert/strict");
const Anthropic = require("@anthropic-ai/sdk");
const OpenAI = require("openai");
const { user } = require("./common.cjs");

const ASKED = { messages: [user("take your time")], max_tokens: 9 };
// Shorter than what the gateway is told, so that the client's own patience ends first.
const OWN = { timeout: 500, headers: { "x-stainless-timeout": "600" } };
// The other way round.
const TOLD = { timeout: 30_000, headers: { "x-request-timeout-ms": "300" } };

async function timesOut(library, create) {
  for (const stream of [false, true]) {
    await assert.rejects(create({ ...ASKED, stream }, OWN), library.APIConnectionTimeoutError);
    await assert.rejects(create({ ...ASKED, stream }, TOLD), (error) => {
      assert.ok(error instanceof library.InternalServerError, error);
      assert.equal(error.status, 504);
      return true;
    });
  }
}

async function main() {
  const [baseURL, apiKey, ...models] = process.argv.slice(2);
  const chat = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey, maxRetries: 0 }).chat.completions;
  const messages = new Anthropic({ baseURL, apiKey, maxRetries: 0 }).messages;
  for (const model of models) {
    await timesOut(OpenAI, (body, options) => chat.create({ model, ...body }, options));
    await timesOut(Anthropic, (body, options) => messages.create({ model, ...body }, options));
  }
  console.log("ok");
}

main();
