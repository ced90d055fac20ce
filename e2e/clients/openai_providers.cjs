// The official `openai` client for Node against providers of any kind behind a gateway.
//
// usage: openai_providers.cjs BASE_URL KEY EMULATOR MODEL...
//
// EMULATOR is where the emulated providers are told to fail. Prints `ok` when everything holds for every model.
"use strict";

const assert = require("node:assert/strict");
const OpenAI = require("openai");
const { SAID, PICTURE, SCHEMA, user, failOnce, run } = require("./common.cjs");

const TOOL = {
  type: "function",
  function: { name: "weather", description: "Tells the weather.", parameters: SCHEMA },
};

async function chats(api, model) {
  const messages = [{ role: "developer", content: "Repeat." }, user(SAID)];
  const whole = await api.chat.completions.create({ model, messages, max_tokens: 100 });
  assert.equal(whole.choices[0].message.content, `You said: ${SAID}`);
  assert.equal(whole.choices[0].finish_reason, "stop");

  const asked = { model, messages, max_tokens: 100, stream: true, stream_options: { include_usage: true } };
  let said = "";
  let usage;
  for await (const chunk of await api.chat.completions.create(asked)) {
    said += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(said, `You said: ${SAID}`);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
}

async function usesTools(api, model) {
  const messages = [user("use a tool: Köln")];
  const used = await api.chat.completions.stream({ model, messages, tools: [TOOL] }).finalChatCompletion();
  assert.equal(used.choices[0].finish_reason, "tool_calls");
  const call = used.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "weather");
  assert.equal(JSON.parse(call.function.arguments).text, "use a tool: Köln");
  const { id, type } = call;
  const { name, arguments: given } = call.function;
  messages.push({ role: "assistant", tool_calls: [{ id, type, function: { name, arguments: given } }] });
  messages.push({ role: "tool", tool_call_id: id, content: "rain" });
  const told = await api.chat.completions.create({ model, messages, tools: [TOOL] });
  assert.equal(told.choices[0].message.content, "You said: rain");
}

async function structures(api, model) {
  const format = { type: "json_schema", json_schema: { name: "reply", strict: true, schema: SCHEMA } };
  const parsed = await api.chat.completions.parse({ model, messages: [user(SAID)], response_format: format });
  assert.deepEqual(JSON.parse(parsed.choices[0].message.content), { text: SAID, numbers: [1, 2] });
}

async function sees(api, model) {
  const picture = { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } };
  const asking = api.chat.completions.create({ model, messages: [user([{ type: "text", text: SAID }, picture])] });
  if (model.startsWith("ernie_classic/")) {
    // The one that knows texts alone says so.
    await assert.rejects(asking, (error) => error instanceof OpenAI.BadRequestError && error.param === "messages");
    return;
  }
  assert.equal((await asking).choices[0].message.content, `You said: ${SAID} (1 pictures)`);
}

async function responds(api, model) {
  const first = await api.responses.create({ model, input: SAID });
  assert.equal(first.output_text, `You said: ${SAID}`);
  const asked = { model, input: "and now?", previous_response_id: first.id };
  const second = await api.responses.stream(asked).finalResponse();
  assert.equal(second.output_text, "You said: and now?");
  assert.equal(second.status, "completed");
}

async function fails(api, model, emulator) {
  const messages = [user(SAID)];
  const provider = model.split("/")[0];
  const create = (more) => api.chat.completions.create({ model, messages, ...more });
  await assert.rejects(create({ temperature: 3 }), OpenAI.BadRequestError);
  await assert.rejects(create({ model: `${provider}/gpt-9` }), OpenAI.NotFoundError);

  // A failure that passes: the client tries again, as soon as it is told to.
  await failOnce(emulator);
  const again = await api.chat.completions.create({ model, messages: [user("try again")] }, { maxRetries: 1 });
  assert.equal(again.choices[0].message.content, "You said: try again");
}

run(OpenAI, [chats, usesTools, structures, sees, responds, fails]);
