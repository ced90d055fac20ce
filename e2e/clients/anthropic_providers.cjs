// The official `@anthropic-ai/sdk` for Node against providers of any kind behind a gateway.
//
// usage: anthropic_providers.cjs BASE_URL KEY EMULATOR MODEL...
//
// EMULATOR is where the emulated providers are told to fail. Prints `ok` when everything holds for every model.
"use strict";

const assert = require("node:assert/strict");
const Anthropic = require("@anthropic-ai/sdk");
const { SAID, PICTURE, SCHEMA, user, failOnce, run } = require("./common.cjs");

const TOOL = { name: "weather", description: "Tells the weather.", input_schema: SCHEMA };
const LIMIT = { max_tokens: 100 };

async function chats(api, model) {
  const asked = { model, ...LIMIT, system: "Repeat.", messages: [user(SAID)] };
  const whole = await api.messages.create(asked);
  assert.equal(whole.content[0].text, `You said: ${SAID}`);
  assert.equal(whole.stop_reason, "end_turn");
  const stream = api.messages.stream(asked);
  let said = "";
  stream.on("text", (piece) => (said += piece));
  const final = await stream.finalMessage();
  assert.equal(said, `You said: ${SAID}`);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  const counted = await api.messages.countTokens({ model, messages: [user(SAID)] });
  assert.ok(counted.input_tokens > 0);
}

async function usesTools(api, model) {
  const messages = [user("use a tool: Köln")];
  const used = await api.messages.stream({ model, ...LIMIT, messages, tools: [TOOL] }).finalMessage();
  assert.equal(used.stop_reason, "tool_use");
  const use = used.content.at(-1);
  assert.equal(use.name, "weather");
  assert.deepEqual(use.input, { text: "use a tool: Köln", numbers: [1, 2] });
  messages.push({ role: "assistant", content: used.content });
  messages.push(user([{ type: "tool_result", tool_use_id: use.id, content: "rain" }]));
  const told = await api.messages.create({ model, ...LIMIT, messages, tools: [TOOL] });
  assert.equal(told.content[0].text, "You said: rain");
}

async function structures(api, model) {
  const output_config = { format: { type: "json_schema", schema: SCHEMA } };
  const answer = await api.messages.create({ model, ...LIMIT, messages: [user(SAID)], output_config });
  assert.deepEqual(JSON.parse(answer.content[0].text), { text: SAID, numbers: [1, 2] });
}

async function sees(api, model) {
  const source = { type: "base64", media_type: "image/png", data: PICTURE };
  const content = [{ type: "text", text: SAID }, { type: "image", source }];
  const asking = api.messages.create({ model, ...LIMIT, messages: [user(content)] });
  if (model.startsWith("ernie_classic/")) {
    // The one that knows texts alone says so.
    await assert.rejects(asking, Anthropic.BadRequestError);
    return;
  }
  assert.equal((await asking).content[0].text, `You said: ${SAID} (1 pictures)`);
}

async function fails(api, model, emulator) {
  const provider = model.split("/")[0];
  const create = (more) => api.messages.create({ model, ...LIMIT, messages: [user(SAID)], ...more });
  await assert.rejects(create({ messages: [] }), Anthropic.BadRequestError);
  await assert.rejects(create({ model: `${provider}/claude-9` }), Anthropic.NotFoundError);

  // A failure that passes: the client tries again, as soon as it is told to.
  await failOnce(emulator);
  const asked = { model, ...LIMIT, messages: [user("try again")] };
  const again = await api.messages.create(asked, { maxRetries: 1 });
  assert.equal(again.content[0].text, "You said: try again");
}

run(Anthropic, [chats, usesTools, structures, sees, fails]);
