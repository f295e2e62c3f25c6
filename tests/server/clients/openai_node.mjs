// openai-node and node-fetch against a server: argv is its URL and a data URI of a picture.
import assert from "node:assert/strict";
import fetch from "node-fetch";
import OpenAI from "openai";

const [url, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "nvapi-x", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: [
  { type: "text", text: "What?" }, { type: "image_url", image_url: { url: picture } }] }];

const whole = await client.chat.completions.create({ model, messages, seed: 1 });
const text = whole.choices[0].message.content;
assert.match(text, /\(8, 6\)/);

let said = "";
let usage;
const stream = await client.chat.completions.create({
  model, messages, seed: 1, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  said += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(said, text);
assert.deepEqual(usage, whole.usage);

const helper = client.chat.completions.stream({ model, messages, seed: 1 });
assert.equal(await helper.finalContent(), text);

await assert.rejects(client.chat.completions.create({ model, messages, temperature: 9 }), /temperature/);

const response = await client.responses.create({ model, input: "Hi" });
assert.match(response.output_text, /Hi/);
const next = await client.responses.create({ model, input: "More", previous_response_id: response.id });
assert.match(next.output_text, /Hi.*More/s);

const plain = await fetch(`${url}/v1/vlm/nvidia/neva-22b`, {
  method: "post",
  body: JSON.stringify({ messages: [{ role: "user", content: `What? <img src="${picture}" />` }] }),
  headers: { "Content-Type": "application/json", Authorization: "Bearer nvapi-x", Accept: "application/json" },
});
assert.match((await plain.json()).choices[0].message.content, /\(8, 6\)/);
console.log("fine");
